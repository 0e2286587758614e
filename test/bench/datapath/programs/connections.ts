// How many connections a second two hosts can open and close, one request and one answer each: `serve ADDRESS PORT`, and
// `connect ADDRESS PORT SECONDS`, which prints the number.

import { connect, createServer } from 'node:net';

const AT_ONCE = 32;

const [what, host = '', port = '', seconds = '2'] = process.argv.slice(2);

if (what === 'serve') {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.on('data', () => socket.end('pong'));
  });
  server.listen({ host, port: Number(port), backlog: 1024 }, () => console.log('listening'));
} else {
  const end = performance.now() + Number(seconds) * 1000;
  let done = 0;
  let failed = 0;
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      const socket = connect({ host, port: Number(port) }, () => socket.write('ping'));
      socket.on('data', () => {
        done += 1;
      });
      socket.on('error', () => {
        failed += 1;
      });
      socket.on('close', () => resolve());
    });
  const loop = async (): Promise<void> => {
    while (performance.now() < end) await one();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, loop));
  console.log(JSON.stringify({ perSecond: done / Number(seconds), failed }));
}
