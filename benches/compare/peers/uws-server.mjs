// A broker on uWebSockets.js: node uws-server.mjs MODULES PORT CERT KEY
//
// Messages are binary: a kind (1 subscribe, 2 message), a channel number (u16, little endian), and for a message its payload.
// A subscription is answered by the same bytes; a message goes to the subscribers of its channel as it came.
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const [modules, port, cert, key] = process.argv.slice(2);
const uws = createRequire(join(resolve(modules), 'from.js'))('uwebsockets');

const SUBSCRIBE = 1;

const app = uws.SSLApp({ cert_file_name: cert, key_file_name: key });

app.ws('/*', {
  compression: uws.DISABLED,
  // As much may wait for a subscriber as in the other servers; the default drops messages above 64 KiB without a word.
  maxBackpressure: 64 * 1024 * 1024,
  idleTimeout: 0,
  message: (socket, message) => {
    const view = new DataView(message);
    const topic = `c${view.getUint16(1, true)}`;
    if (view.getUint8(0) === SUBSCRIBE) {
      socket.subscribe(topic);
      socket.send(message, true, false);
      return;
    }
    app.publish(topic, message, true, false);
  },
});

app.listen('127.0.0.1', Number(port), (socket) => {
  if (!socket) {
    console.error(`port ${port} is taken: stop what listens there`);
    process.exit(1);
  }
});
