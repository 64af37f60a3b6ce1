// How long the parts of a request may take, and how many commands of holders run at the same time.

import { busyError, KeystoreError, lateError } from "../errors.ts";

/** ms that parts of a request may take. */
export interface TimeLimits {
  /** From a request's first byte to the end of its message. */
  readonly message: number;
  /** From the end of the message to the answer, without the time that the request waits for a turn. */
  readonly work: number;
  /** The whole time that a request waits for its turns to run holders' commands. */
  readonly turn: number;
  /** Until a record is in the audit file. */
  readonly record: number;
  /** Until a locked key is open. */
  readonly unlock: number;
}

/** The limits of `serve`. */
export const TIME_LIMITS: TimeLimits = { message: 60_000, work: 60_000, turn: 120_000, record: 10_000, unlock: 30_000 };

/** A limit as a message shows it. */
export function shownTime(ms: number): string {
  return `${ms / 1000} s`;
}

/** The result of `work`. If it takes longer than `limit`, `late` is thrown and the outcome of `work` is ignored. */
export async function within<T>(limit: number, work: Promise<T>, late: () => KeystoreError): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(late()), limit);
  });
  return await Promise.race([work, over]).finally(() => clearTimeout(timer));
}

type Phase = "work" | "turn";

/** The time that one request may take. When it is used up, the request is abandoned. */
export class Allowance {
  readonly #abandoned = new AbortController();
  readonly #limits: TimeLimits;
  readonly #left: Record<Phase, number>;
  #timer: NodeJS.Timeout | undefined;
  #since = 0;
  #phase: Phase = "work";

  constructor(limits: TimeLimits) {
    this.#limits = limits;
    this.#left = { work: limits.work, turn: limits.turn };
    this.#start("work");
  }

  /** Aborted when the request is abandoned. From then on no further work is started for it. */
  get abandoned(): AbortSignal {
    return this.#abandoned.signal;
  }

  /** The result of `work`. @throws the reason if the request is abandoned first */
  async until<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#abandoned;
    const over = new Promise<never>((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    return await Promise.race([work, over]);
  }

  /** Waits for a turn. */
  async waiting(turn: Promise<void>): Promise<void> {
    this.#start("turn");
    await turn.finally(() => this.#start("work"));
  }

  /** Gives the request up. */
  abandon(reason: KeystoreError): void {
    this.end();
    this.#abandoned.abort(reason);
  }

  /** Stops the clocks: the request has its answer. */
  end(): void {
    clearTimeout(this.#timer);
  }

  #start(phase: Phase): void {
    if (this.#abandoned.signal.aborted) return;
    const now = performance.now();
    if (this.#timer !== undefined) this.#left[this.#phase] -= now - this.#since;
    clearTimeout(this.#timer);
    this.#phase = phase;
    this.#since = now;
    this.#timer = setTimeout(() => this.abandon(this.#late()), this.#left[phase]);
  }

  #late(): KeystoreError {
    const { work, turn } = this.#limits;
    if (this.#phase === "turn") {
      const message = `the holder's command did not get its turn within ${shownTime(turn)}`;
      return busyError(message, "try again, or start the server with more --holder-jobs");
    }
    const hint = "try again; if it happens again, look for what hangs: a Tang server, a holder's command or a disk";
    return lateError(`the request took longer than ${shownTime(work)}`, hint);
  }
}

/** Limits how many holders' commands run at the same time. The others wait for their turn, in order. */
export class Turns {
  readonly #waiting = new Set<() => void>(); // in the order of insertion
  #free: number;

  constructor(count: number) {
    this.#free = count;
  }

  /** Runs `work` in its turn. */
  async run<T>(allowance: Allowance, work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await allowance.waiting(this.#turn(allowance.abandoned));
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#free++;
      else next();
    }
  }

  async #turn(abandoned: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const begin = (): void => {
        this.#waiting.delete(begin);
        resolve();
      };
      this.#waiting.add(begin);
      const giveUp = (): void => {
        if (this.#waiting.delete(begin)) reject(abandoned.reason);
      };
      abandoned.addEventListener("abort", giveUp, { once: true });
    });
  }
}
