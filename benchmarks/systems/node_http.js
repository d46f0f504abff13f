// A Node HTTP server.  WORKERS above 1: that many under Node's own cluster, which hands
// connections out in turn.  TRUST_FORWARDED=1: the client is who X-Forwarded-For says, for
// use behind a proxy.
'use strict';
const cluster = require('node:cluster');
const http = require('node:http');

const count = Number(process.env.WORKERS || 1);
const forwarded = process.env.TRUST_FORWARDED === '1';

function serve() {
  const hits = new Map();
  const server = http.createServer((request, response) => {
    const client = (forwarded && request.headers['x-forwarded-for'])
      || request.socket.remoteAddress;
    const seen = (hits.get(client) || 0) + 1;
    hits.set(client, seen);
    response.end(`Worker ${process.pid} session hits: ${seen}\n`);
  });
  // 4096: what the kernel allows by default; it cuts more down to its own limit.
  server.listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 });
}

if (count > 1 && cluster.isPrimary) {
  for (let i = 0; i < count; i += 1) cluster.fork();
} else {
  serve();
}
