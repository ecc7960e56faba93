// Connects to a server of the host.
// verdict: forbidden
// says: Operation not permitted|SocketException
class Solution {
    int answer() throws Exception {
        new java.net.Socket("127.0.0.1", Integer.parseInt("@PORT@"));
        return 42;
    }
}
