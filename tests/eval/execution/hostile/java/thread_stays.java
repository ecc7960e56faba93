// Passes its tests, but a thread of it stays.
// verdict: wall time
// limits: wall_s=4
class Solution {
    int answer() {
        new Thread(() -> {
            while (true) {
                try {
                    Thread.sleep(9999);
                } catch (InterruptedException again) {
                    continue;
                }
            }
        }).start();
        return 42;
    }
}
