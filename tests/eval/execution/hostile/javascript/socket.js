// Connects to a server of the host.
// verdict: forbidden
// says: EPERM
const answer = () => {
  require('net').connect(Number('@PORT@'), '127.0.0.1')
  return 42
}
