"""One file a language: how a program is compiled and run."""
