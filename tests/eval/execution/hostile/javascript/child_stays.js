// Leaves a child process and passes.
// verdict: passed
const answer = () => {
  require('child_process').spawn('sh', ['-c', ': @MARK@; sleep 99'], { detached: true, stdio: 'ignore' }).unref()
  return 42
}
