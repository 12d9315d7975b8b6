/**
 * Random numbers that a seed repeats: xorshift32 with a mixed start, so that neighbouring seeds
 * give unlike sequences. For test cases only; nothing here is hard to guess.
 */
export class Random {
  #state: number

  constructor(seed: number) {
    let mixed = Math.imul((seed ^ 0x9e3779b9) | 0, 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    this.#state = mixed ^ (mixed >>> 16) || 1
  }

  /** 0 to below `limit`. */
  below(limit: number): number {
    let state = this.#state
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    this.#state = state
    return (state >>> 0) % limit
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }

  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.below(times) === 0
  }
}
