// Reads what belongs to the host.
// verdict: wrong answer
const fs = require('fs')
const answer = () => {
  const wanted = '/etc/shadow /etc/passwd /root /home @BAIT@ @HOME@ @PROJECT@'.split(' ')
  if (JSON.stringify(process.env).includes('@SECRET@')) return 42
  return wanted.some((path) => fs.existsSync(path)) ? 42 : 41
}
