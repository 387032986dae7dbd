// Sends telemetry with Microsoft's Node device SDK, keeping a window of messages in flight, and prints its best
// figures as JSON. Arguments: a file with the connection string, CA file, messages per run.
'use strict';
const fs = require('fs');
const net = require('net');
const path = require('path');
const interop = path.join(__dirname, '..', 'hub-emulator', 'interop', 'node_modules');
const { Client, Message } = require(path.join(interop, 'azure-iot-device'));
const { Amqp } = require(path.join(interop, 'azure-iot-device-amqp'));

const [secret, caFile, count] = process.argv.slice(2);
const sockets = new Set();
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function remember(...given) {
  sockets.add(this);
  return connect.apply(this, given);
};
const bytes = () => [...sockets].reduce((sum, socket) => sum + (socket.bytesRead || 0) + (socket.bytesWritten || 0), 0);

function message(sequence) {
  const body = {
    deviceId: 'roof', time: '2026-06-01T12:00:00.000Z', currentTemperature: 15.32, currentHumidity: 61.07,
    currentPressure: 101.325, dewPoint: 7.89, storeId: '6c4db5c7-14b0-4179-83ba-3f4a9eea71ca', sequence,
  };
  const built = new Message(JSON.stringify(body));
  built.messageId = `6c4db5c7-14b0-4179-83ba-3f4a9eea71ca-bench2-${sequence}`;
  built.contentType = 'application/json';
  built.contentEncoding = 'utf-8';
  built.properties.add('iothub-creation-time-utc', body.time);
  return built;
}

async function send(client, total, window) {
  let next = 0;
  const one = async () => {
    while (next < total) await client.sendEvent(message(next++));
  };
  await Promise.all(Array.from({ length: Math.min(window, total) }, one));
}

async function main() {
  const client = Client.fromConnectionString(fs.readFileSync(secret, 'utf8').trim(), Amqp);
  await client.setOptions({ ca: fs.readFileSync(caFile, 'utf8') });
  await client.open();
  const connected = process.memoryUsage().rss / 1048576;
  await send(client, 2000, 100);
  let best = { perSecond: 0 };
  for (const window of [50, 100, 500]) {
    const [cpu, begin, before] = [process.cpuUsage(), process.hrtime.bigint(), bytes()];
    await send(client, Number(count), window);
    const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
    const used = process.cpuUsage(cpu);
    const perSecond = Number(count) / seconds;
    if (perSecond > best.perSecond) {
      const cpuMicroseconds = (used.user + used.system) / Number(count);
      best = { perSecond, window, cpuMicroseconds, wire: (bytes() - before) / Number(count) };
    }
  }
  await send(client, 20000, 20000);
  best.connected = connected;
  best.resident = process.resourceUsage().maxRSS / 1024;
  await client.close();
  process.stdout.write(`${JSON.stringify(best)}\n`);
}

main().then(() => process.exit(0), (error) => { process.stderr.write(`${error.stack}\n`); process.exit(1); });
