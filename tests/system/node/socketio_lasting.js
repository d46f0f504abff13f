// Clients of Socket.IO, one by long polling and one by WebSocket, that talk on and on, and connect
// again when they have to, as they do by default.  Tells of it in lines.
//
// Wants one argument, in JSON: the `url` of the server.

import {setTimeout as pause} from 'node:timers/promises';
import {io} from 'socket.io-client';

const {url} = JSON.parse(process.argv[2]);

async function last(transport) {
  const socket = io(url, {transports: [transport], withCredentials: true, forceNew: true});
  const tell = (text) => process.stdout.write(`${transport} ${text}\n`);
  socket.on('connect', () => tell('connected'));
  socket.on('disconnect', (reason, details) =>
    tell(`disconnected: ${reason}: ${details?.context?.responseText}`));
  while (true) {
    const {pid, count} = await socket.emitWithAck('echo', 'word').catch(() => ({}));
    if (pid) tell(`${pid} heard ${count}`);
    await pause(20);
  }
}

await Promise.all([last('polling'), last('websocket')]);
