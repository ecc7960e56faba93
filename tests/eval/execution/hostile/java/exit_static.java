// A static initialiser ends the program before its function is called.
// verdict: early exit
// says: exit code 0
class Solution {
    static {
        System.exit(0);
    }

    int answer() {
        return 41;
    }
}
