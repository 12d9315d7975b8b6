/**
 * A datapath that could not do what it was told. Thrown by drivers from structure changes only;
 * the data plane has numeric results instead.
 */

export class DatapathError extends Error {
  override name = 'DatapathError'
  /** What went wrong, in one word that stays the same over releases: a metric's label. */
  readonly code: string

  /** @param message  what we tried: what came back; what to do */
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
