// The program that stickyd replaces, in the shape it is usually written: a cluster primary
// accepts with pauseOnConnect, hashes the address, and sends the socket to a worker.
'use strict';
const cluster = require('node:cluster');
const crypto = require('node:crypto');
const http = require('node:http');
const net = require('node:net');

const port = Number(process.env.PORT);
const count = Number(process.env.WORKERS);

function slotOf(address) {
  const digest = crypto.createHash('md5').update(address).digest('hex');
  return parseInt(digest.slice(0, 8), 16) % count;
}

function primary() {
  const workers = Array.from({ length: count }, () => cluster.fork());
  const server = net.createServer({ pauseOnConnect: true }, (socket) => {
    const worker = workers[slotOf(socket.remoteAddress || '')];
    worker.send('sticky-session:connection', socket);
  });
  let online = 0;
  for (const worker of workers) {
    worker.on('online', () => {
      online += 1;
      if (online === count) server.listen(port, '127.0.0.1');
    });
  }
}

function worker() {
  const hits = new Map();
  const server = http.createServer((request, response) => {
    const client = request.socket.remoteAddress;
    const seen = (hits.get(client) || 0) + 1;
    hits.set(client, seen);
    response.end(`Worker ${process.pid} session hits: ${seen}\n`);
  });
  process.on('message', (message, socket) => {
    // The client may have gone while the socket was under way; then there is none.
    if (message !== 'sticky-session:connection' || !socket) return;
    server.emit('connection', socket);
    socket.resume();
  });
}

if (cluster.isPrimary) primary();
else worker();
