/**
 * Puts numbered events in order, drops repeats and leftovers, reports gaps (as shared/timeline.py).
 *
 * A higher attempt starts over at 0; what carries a lower one than the highest seen is a leftover
 * of a replaced worker.
 */
export class Timeline<T> {
  attempt = 0;
  expected = 0;
  private early = new Map<number, T>();

  /** True while something came that cannot be given out yet. */
  get gap(): boolean {
    return this.early.size > 0;
  }

  /** The events that can be given out now; none for a repeat, a leftover or a gap. */
  add(attempt: number, seq: number, event: T): T[] {
    if (attempt < this.attempt || (attempt === this.attempt && seq < this.expected)) return [];
    if (attempt > this.attempt) this.restart(attempt);
    this.early.set(seq, event);
    return this.ready();
  }

  /** Everything before `expected` of this attempt is known from elsewhere; gives what follows it. */
  jump(attempt: number, expected: number): T[] {
    if (attempt < this.attempt || (attempt === this.attempt && expected <= this.expected)) return [];
    if (attempt > this.attempt) this.restart(attempt);
    this.expected = expected;
    for (const seq of this.early.keys()) if (seq < expected) this.early.delete(seq);
    return this.ready();
  }

  /** A new attempt: nothing of the earlier ones counts any more. */
  restart(attempt: number): void {
    this.attempt = attempt;
    this.expected = 0;
    this.early.clear();
  }

  private ready(): T[] {
    const ready: T[] = [];
    for (let event = this.early.get(this.expected); event !== undefined; ) {
      ready.push(event);
      this.early.delete(this.expected);
      this.expected += 1;
      event = this.early.get(this.expected);
    }
    return ready;
  }
}
