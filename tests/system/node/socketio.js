// Many clients of Socket.IO that talk at once, each of whom checks its own conversation.
//
// Wants one argument, in JSON; see `converse` in test_socketio.py.  Prints what became of each
// client, in JSON.  A client that goes wrong ends there: none of them connects again.

import http from 'node:http';
import {io} from 'socket.io-client';

const plan = JSON.parse(process.argv[2]);
const shared = plan.pool === 'shared' && pool(plan.sources[0]);

function pool(source) {
  return new http.Agent({keepAlive: true, localAddress: source});
}

function occurrence(emitter, ...names) {
  return new Promise((resolve) => {
    for (const name of names) emitter.once(name, () => resolve(name));
  });
}

async function talk(number) {
  const source = plan.sources[number % plan.sources.length];
  const agent = shared || pool(source);
  const socket = io(plan.url, {
    agent,
    localAddress: source,  // of a WebSocket
    transports: plan.transports,
    upgrade: plan.transports.length > 1,
    withCredentials: plan.cookies,
    forceNew: true,
    reconnection: false,
  });
  const broken = new Promise((_, reject) => {
    const fail = (error) => reject(new Error(`client ${number}: ${error.message ?? error}: ` +
      `${error.description?.message ?? ''} ${error.context?.status ?? ''} ` +
      `${error.context?.responseText ?? ''}`));
    socket.on('connect_error', fail);
    socket.on('disconnect', (reason, details) =>
      fail(details instanceof Error ? details : new Error(reason)));
    socket.io.engine.on('upgradeError', fail);
  });
  const upgraded = occurrence(socket.io.engine, 'upgrade');
  const seen = {source, pids: new Set(), answers: 0, transport: ''};

  async function say(from, to) {
    for (let event = from; event < to; event++) {
      const word = `${number}/${event}`;
      const answer = await socket.emitWithAck('echo', word);
      if (answer.word !== word || answer.count !== event + 1) {
        throw new Error(`client ${number} said ${word}, heard ${JSON.stringify(answer)}`);
      }
      seen.pids.add(answer.pid);
      seen.answers++;
    }
  }

  async function converse() {
    await occurrence(socket, 'connect');
    // Some events meet the probe of the upgrade, the others its outcome.
    await say(0, plan.events / 2);
    if (plan.transports.length > 1) await upgraded;
    await say(plan.events / 2, plan.events);
  }

  try {
    await Promise.race([converse(), broken]);
    seen.transport = socket.io.engine.transport.name;
  } catch (error) {
    seen.error = error.message;
  }
  broken.catch(() => {});
  return {...seen, pids: [...seen.pids]};
}

// They vanish together, at the end: a poll that crosses a good-bye on its way would be of an
// unknown session.
const clients = await Promise.all([...Array(plan.clients).keys()].map(talk));
process.stdout.write(JSON.stringify(clients), () => process.exit(0));
