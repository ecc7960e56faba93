// Brings its own version of the class that calls the tests.
// verdict: compile error
// says: duplicate class
class Proof {
    public static void main(String[] arguments) {}
}

class Solution {
    int answer() {
        return 41;
    }
}
