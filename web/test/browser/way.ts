// A way to a server that lets UDP through, loses some of it, or swallows it, as networks do.

import { createSocket, type RemoteInfo, type Socket as Udp } from 'node:dgram';
import { type AddressInfo, connect, createServer, type Server as Tcp } from 'node:net';

const HOST = '127.0.0.1';

export class Way {
  port = 0;
  /** Whether UDP passes. */
  open = true;
  /** Which packets of the server are lost. */
  loses: (packet: Uint8Array) => boolean = () => false;
  readonly #tcp: Tcp;
  readonly #udp: Udp = createSocket('udp4');
  readonly #far = new Map<number, Udp>();

  private constructor(server: number) {
    this.#tcp = createServer(near => {
      const far = connect(server, HOST);
      near.pipe(far).pipe(near);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        one.on('error', () => other.destroy());
        one.on('close', () => other.destroy());
      }
    });
    this.#udp.on('message', (packet, { port }: RemoteInfo) => {
      if (!this.open) return;
      let far = this.#far.get(port);
      if (!far) {
        far = createSocket('udp4');
        far.on('message', answer => this.open && !this.loses(answer) && this.#udp.send(answer, port, HOST));
        this.#far.set(port, far);
      }
      far.send(packet, server, HOST);
    });
  }

  /** A way to the server's port, over TCP and UDP on one number. */
  static async to(server: number): Promise<Way> {
    for (;;) {
      const way = new Way(server);
      await new Promise<void>(resolve => way.#tcp.listen(0, HOST, resolve));
      way.port = (way.#tcp.address() as AddressInfo).port;
      const bound = await new Promise<boolean>(resolve => {
        way.#udp.once('error', () => resolve(false));
        way.#udp.bind(way.port, HOST, () => resolve(true));
      });
      if (bound) return way;
      way.#tcp.close();
    }
  }

  close(): void {
    this.#tcp.close();
    this.#udp.close();
    for (const far of this.#far.values()) far.close();
  }
}
