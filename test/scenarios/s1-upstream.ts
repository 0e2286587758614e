// A resolver of the machine, for S1: knows one name of the world and denies all others. Each question is a line of its output.

import { createSocket } from 'node:dgram';
import { decode, encode, RECURSION_AVAILABLE } from '@leichtgewicht/dns-packet';

const [, , address = '127.0.0.1', port = '53'] = process.argv;
const socket = createSocket('udp4');
socket.on('message', (message, from) => {
  const query = decode(new Uint8Array(message));
  const [question] = query.questions ?? [];
  if (question === undefined) return;
  const { name, type } = question;
  process.stdout.write(`asked ${type} ${name}\n`);
  const isKnown = name.toLowerCase() === 'www.example.com';
  const response = encode({
    type: 'response',
    id: query.id ?? 0,
    flags: RECURSION_AVAILABLE | (isKnown ? 0 : 3),
    questions: [question],
    answers: isKnown && type === 'A' ? [{ type: 'A', name, ttl: 60, data: '192.0.2.80' }] : [],
  });
  socket.send(response, from.port, from.address);
});
socket.bind(Number(port), address, () => process.stdout.write('serving\n'));
