// Typed events on top of the platform's.

import { check, FUNCTION } from './check.ts';

/** An {@link EventTarget} whose events are those of `M`: names, and what their `detail` is. */
export class Events<M> extends EventTarget {
  /** Calls `listener` with the detail of every such event. Returns a function that takes it away again. */
  on<K extends keyof M & string>(type: K, listener: (detail: M[K]) => void): () => void {
    check(`on(${type})`, listener, FUNCTION);
    const heard = (event: CustomEvent<M[K]>) => listener(event.detail);
    this.addEventListener(type, heard);
    return () => this.removeEventListener(type, heard as EventListener);
  }

  override addEventListener<K extends keyof M & string>(
    type: K,
    listener: ((event: CustomEvent<M[K]>) => void) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(type: string, listener: unknown, options?: boolean | AddEventListenerOptions): void {
    super.addEventListener(type, listener as EventListener, options);
    this.listened();
  }

  /** A listener was added. */
  protected listened(): void {}

  protected emit<K extends keyof M & string>(type: K, detail: M[K]): void {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
