/** Why a daemon cannot start, when the reason lies outside of it. The message says what to do. */
export class StartError extends Error {
  override name = 'StartError'
}
