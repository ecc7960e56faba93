// Ends with process.exit.
// verdict: early exit
// says: exit code 0
const answer = () => process.exit(0)
