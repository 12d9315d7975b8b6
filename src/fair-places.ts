/**
 * Fair places: a fixed number of places for what clients take and keep (TCP connections, servers of
 * their own choice), given out so that none of them can have all.
 *
 * The rule is that of pipeline/share.ts: an owner may hold as many places as are left free. What is
 * kept can also be taken away: an owner that has its share gets the place of its own that was unused
 * for longest, and one that has none, when none is free, that of anybody's. What is in use is never
 * taken. Owners are numbers, hashes of whatever tells clients apart.
 */
export const NO_PLACE = -1

export class FairPlaces {
  readonly count: number
  #freeCount: number
  readonly #isTaken: Uint8Array
  readonly #owners: Int32Array
  /** Rises with every use, on a scale of the caller's. */
  readonly #usedAt: Float64Array

  constructor(count: number) {
    this.count = count
    this.#freeCount = count
    this.#isTaken = new Uint8Array(count)
    this.#owners = new Int32Array(count)
    this.#usedAt = new Float64Array(count)
  }

  get takenCount(): number {
    return this.count - this.#freeCount
  }

  isTaken(place: number): boolean {
    return this.#isTaken[place] === 1
  }

  usedAt(place: number): number {
    return this.#usedAt[place]!
  }

  /**
   * The place for one more of this owner's, or NO_PLACE. If it is taken, what is there has to `leave`
   * first. Looks at every place: for what happens seldom.
   * @param isIdle  whether what is in a taken place may be ended
   */
  find(owner: number, isIdle: (place: number) => boolean): number {
    let own = 0
    let free = NO_PLACE
    let oldest = NO_PLACE
    let oldestOwn = NO_PLACE
    for (let place = 0; place < this.count; place++) {
      if (this.#isTaken[place] === 0) {
        if (free === NO_PLACE) free = place
        continue
      }
      const isOwn = this.#owners[place] === owner
      if (isOwn) own++
      if (!isIdle(place)) continue
      oldest = this.#older(place, oldest)
      if (isOwn) oldestOwn = this.#older(place, oldestOwn)
    }
    if (own < this.#freeCount) return free
    return own > 0 ? oldestOwn : oldest
  }

  take(place: number, owner: number, at: number): void {
    this.#isTaken[place] = 1
    this.#owners[place] = owner
    this.#usedAt[place] = at
    this.#freeCount--
  }

  use(place: number, at: number): void {
    this.#usedAt[place] = at
  }

  leave(place: number): void {
    this.#isTaken[place] = 0
    this.#freeCount++
  }

  #older(place: number, other: number): number {
    return other === NO_PLACE || this.#usedAt[place]! < this.#usedAt[other]! ? place : other
  }
}
