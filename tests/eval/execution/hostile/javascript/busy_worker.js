// Passes its tests, but a worker thread of it stays and is busy.
// verdict: CPU time
// limits: cpu_s=1
const { Worker } = require('worker_threads')
const answer = () => {
  new Worker('while (true) {}', { eval: true })
  return 42
}
