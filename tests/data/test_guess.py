"""The language of a text that has no name, told by its content alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.data.languages import TAGS, canonical
from mindgeex.data.sources.guess import guess_language
from tests.data.test_datasets import PYTHON

SAMPLES = {
    "python": PYTHON,
    "c": """\
#include <stdio.h>
#define N 10
static int add(int a, int b)
{
    return a + b;
}
int main(void)
{
    return 0;
}
""",
    "cpp": """\
#include <vector>
namespace a {
template <typename T>
class B {
public:
    std::vector<T> items;
};
}
""",
    "java": """\
package a.b;

import java.util.List;

public class A {
    @Override
    public String toString() {
        return null;
    }
}
""",
    "go": """\
package main

import "fmt"

func main() {
	x := 1
	if err != nil {
		return
	}
	fmt.Println(x)
}
""",
    "rust": """\
use std::io;

pub fn main() {
    let mut x = 1;
    println!("{}", x);
}

impl A for B {
}
""",
    "javascript": """\
'use strict';
const a = require('a');
function f(x) {
  return x === 1;
}
module.exports = f;
""",
    "typescript": """\
import { A } from './a';

export interface B {
  name: string;
  size?: number;
}
export const f = (a: A): B => a;
""",
    "csharp": """\
using System;

namespace A.B
{
    public class C
    {
        public string Name { get; set; }
    }
}
""",
    "php": """\
<?php
echo 1;
""",
    "html": """\
<!-- a -->
<!DOCTYPE html>
<html><body>Text</body></html>
""",
    "css": """\
.a {
  color: red;
  margin: 0;
}
.b:hover {
  padding: 1px;
  display: none;
}
""",
    "shell": """\
#!/usr/bin/env bash
ls
""",
    "ruby": """\
require 'set'

module A
  class B < C
    attr_reader :d
    def e
    end
  end
end
""",
    "sql": """\
CREATE TABLE a (b int);
INSERT INTO a VALUES (1);
select * from a;
""",
    "kotlin": """\
package a.b

import c.d.E

fun f(x: Int): Int = x
private val g = 1
data class H(val i: Int)
""",
    "scala": """\
package a.b

import c.{d, e}

object F extends G {
  implicit val h = 1
  def i(j: Int): Int = j
}
""",
    "perl": """\
use strict;
use warnings;
my $x = shift;
sub f {
    my ($self) = @_;
}
""",
    "fortran": """\
subroutine f(x)
  implicit none
  integer, intent(in) :: x
  call g(x)
end subroutine
""",
    "tex": """\
\\documentclass{article}
\\usepackage{a}
\\begin{document}
Text
\\end{document}
""",
    "cuda": """\
#include <cuda.h>
#define N 1
#ifndef A
int f(int x);
__global__ void k(float *x) { }
""",
    "objective-c": """\
#import <A/A.h>

@interface B : NSObject
@property (nonatomic) int c;
- (void)d;
@end
""",
}


@pytest.mark.parametrize("language", SAMPLES)
def test_code_without_a_name_is_told_by_its_content(language):
    assert guess_language(SAMPLES[language]) == language
    assert guess_language(SAMPLES[language].replace("\n", "\r\n")) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Once upon a time there was a class of people who import things from other countries.\n" * 5,
        "Title\n=====\n\n    import os\n\nThis is how it works, and this is why.\n",
        '{"name": "a", "scripts": {"test": "import os"}}',
        "name: a\non:\n  push:\n    branches:\n      - main\njobs:\n  build:\n    steps:\n      - uses: a\n",
        'syntax = "proto3";\npackage a;\nimport "b.proto";\nmessage C {\n  string d = 1;\n}\n',
        "diff --git a/a.py b/a.py\n@@ -1 +1 @@\n-import os\n+import sys\n",
        "cmake_minimum_required(VERSION 3)\nadd_library(a b.c)\nif(C)\nset(D 1)\nendif()\n",
        '{% extends "a" %}\n<html><body>{{ b }}</body></html>',
        "<!-- a -->\n<!DOCTYPE html>\n<html>{% if a %}</html>",
        "$a: 1px;\n.b {\n  color: red;\n  margin: 0;\n  padding: 0;\n  &:hover {\n  }\n}\n",
        "#!/usr/bin/unknown\nimport os\n",
        PYTHON + SAMPLES["java"],
    ],
)
def test_what_is_no_code_or_several_at_once_has_no_language(text):
    assert guess_language(text) is None


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.sampled_from([*SAMPLES.values(), "\n", "/*", "<!--", '"""', "a.b" * 99, "(" * 99, " " * 99])))
def test_a_guess_takes_no_time_whatever_the_text(pieces):
    text = "".join(pieces) * 3
    assert guess_language(text) in (None, *map(canonical, TAGS))
