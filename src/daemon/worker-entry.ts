/** Where the worker's code is: beside this file in a bundle, in src/worker in a checkout. */
export function workerEntry(): URL {
  return import.meta.url.endsWith('.ts')
    ? new URL('../worker/main.ts', import.meta.url)
    : new URL('./worker.js', import.meta.url)
}
