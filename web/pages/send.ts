// The form that publishes, notifies and announces.

import { type Api, ApiError, type Published } from './api.ts';
import { byId, write } from './dom.ts';

type Kind = 'publish' | 'notify' | 'announce';

export class Send {
  readonly #form = byId('send', HTMLFormElement);
  readonly #to = byId('to', HTMLInputElement);
  readonly #body = byId('body', HTMLTextAreaElement);
  readonly #format = byId('format', HTMLSelectElement);
  readonly #answer = byId('answer', HTMLOutputElement);
  /** What was written for each kind that has a name to write. */
  readonly #names: Record<Kind, string> = { publish: 'chat-room-lobby', notify: '', announce: '' };
  #kind: Kind = 'publish';

  /** `api` is asked for at each sending. */
  constructor(api: () => Api | undefined) {
    this.#form.addEventListener('change', () => this.#choose(this.#chosen()));
    this.#form.addEventListener('submit', event => {
      event.preventDefault();
      const now = api();
      if (now) void this.#send(now);
    });
    this.#choose(this.#chosen(), this.#names.publish);
  }

  /** Makes ready to publish to this channel. */
  address(channel: string): void {
    this.#form.querySelector<HTMLInputElement>('[value=publish]')!.checked = true;
    this.#choose('publish', channel);
    this.#body.focus();
  }

  #chosen(): Kind {
    return new FormData(this.#form).get('kind') as Kind;
  }

  #choose(kind: Kind, name = kind === this.#kind ? this.#to.value : this.#names[kind]): void {
    this.#names[this.#kind] = this.#to.value;
    this.#kind = kind;
    this.#to.value = name;
    this.#to.required = kind !== 'announce';
    write(byId('to-label', HTMLElement), kind === 'notify' ? 'User' : 'Channel');
    byId('to-field', HTMLElement).hidden = kind === 'announce';
    byId('format-field', HTMLElement).hidden = kind !== 'publish';
  }

  async #send(api: Api): Promise<void> {
    this.#say('', '');
    try {
      const { channel, offset, epoch } = await this.#ask(api);
      this.#say(`${channel} has it at offset ${offset.toLocaleString()}, epoch ${epoch}`, 'sent');
      this.#body.value = '';
    } catch (error) {
      this.#say(why(error as Error), 'wrong');
    }
  }

  #ask(api: Api): Promise<Published> {
    const [to, body] = [this.#to.value.trim(), this.#body.value];
    if (this.#kind === 'announce') return api.announce(body);
    if (this.#kind === 'notify') return api.notify(to, body);
    if (this.#format.value === 'text') return api.publish(to, { text: body });
    // It goes as it is written; this only tells early, and better, what is wrong with it.
    JSON.parse(body);
    return api.publish(to, { json: body });
  }

  #say(text: string, kind: '' | 'sent' | 'wrong'): void {
    this.#answer.className = kind;
    write(this.#answer, text);
  }
}

function why(error: Error): string {
  if (error instanceof SyntaxError) return `This is no JSON: ${error.message}`;
  if (!(error instanceof ApiError)) return `The server does not answer: ${error.message}`;
  return `${error.code}${error.number === undefined ? '' : ` (${error.number})`}: ${error.message}`;
}
