// Passes its tests, but a timer of it stays.
// verdict: wall time
// limits: wall_s=3
setInterval(() => {}, 1000)
const answer = () => 42
