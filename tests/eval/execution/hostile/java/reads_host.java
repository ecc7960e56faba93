// Reads what belongs to the host.
// verdict: wrong answer
class Solution {
    int answer() {
        for (String path : "/etc/shadow /etc/passwd /root /home @BAIT@ @HOME@ @PROJECT@".split(" ")) {
            if (new java.io.File(path).exists()) {
                return 42;
            }
        }
        return System.getenv().toString().contains("@SECRET@") ? 42 : 41;
    }
}
