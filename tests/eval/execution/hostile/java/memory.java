// Wants all memory.
// verdict: memory
class Solution {
    int answer() {
        java.util.List<int[]> kept = new java.util.ArrayList<>();
        while (true) {
            kept.add(new int[10_000_000]);
        }
    }
}
