// Leaves a child process and passes.
// verdict: passed
class Solution {
    int answer() throws Exception {
        new ProcessBuilder("setsid", "sh", "-c", ": @MARK@; sleep 99").start();
        return 42;
    }
}
