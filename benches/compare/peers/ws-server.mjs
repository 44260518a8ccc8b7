// A broker on ws: node ws-server.mjs MODULES PORT CERT KEY
//
// Messages are binary: a kind (1 subscribe, 2 message), a channel number (u16, little endian), and for a message its payload.
// A subscription is answered by the same bytes; a message goes to the subscribers of its channel as it came.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const [modules, port, cert, key] = process.argv.slice(2);
const { WebSocketServer } = createRequire(join(resolve(modules), 'from.js'))('ws');

const SUBSCRIBE = 1;
const BINARY = { binary: true, compress: false };

const channels = new Map();
const https = createServer({ cert: readFileSync(cert), key: readFileSync(key), minVersion: 'TLSv1.3' });
const server = new WebSocketServer({ server: https, perMessageDeflate: false });

server.on('connection', (socket) => {
  const joined = [];
  socket.on('message', (message) => {
    const channel = message.readUInt16LE(1);
    if (message[0] === SUBSCRIBE) {
      if (!channels.has(channel)) channels.set(channel, new Set());
      channels.get(channel).add(socket);
      joined.push(channel);
      socket.send(message, BINARY);
      return;
    }
    for (const subscriber of channels.get(channel) ?? []) subscriber.send(message, BINARY);
  });
  socket.on('close', () => joined.forEach((channel) => channels.get(channel).delete(socket)));
  socket.on('error', () => socket.terminate());
});

https.listen(Number(port), '127.0.0.1');
