// Microsoft's Node device SDK as a device of the hub emulator. What it does with a real hub it must be able to do
// here: the emulator is worth as much as that. Arguments: control port, CA file, key file. Knows nothing of the station.
'use strict';
const assert = require('assert');
const fs = require('fs');
const http = require('http');
const { NoRetry } = require('azure-iot-common');
const { Client, Message } = require('azure-iot-device');
const { Amqp, AmqpWs } = require('azure-iot-device-amqp');

const [controlPort, caFile, keyFile] = process.argv.slice(2);
const ca = fs.readFileSync(caFile, 'utf8');
const key = fs.readFileSync(keyFile, 'utf8').trim();

/** One request to the control port. */
function control(method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json' };
    const request = http.request({ port: Number(controlPort), method, path, headers }, (response) => {
      let text = '';
      response.on('data', (part) => { text += part; });
      response.on('end', () => resolve(text ? JSON.parse(text) : null));
    });
    request.on('error', reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** The promise, or an error that says what did not come. */
function within(what, promise, milliseconds = 10000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks again until the answer is true. */
async function until(what, ask) {
  const end = Date.now() + 15000;
  while (!(await ask())) {
    if (Date.now() > end) throw new Error(`${what}: never`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const putTokens = () => control('GET', '/events?kind=put-token');

async function client(transport, secret = key, options = {}) {
  const made = Client.fromConnectionString(`HostName=localhost;DeviceId=roof;SharedAccessKey=${secret}`, transport);
  // One call: a second one would forget the first one's options.
  await made.setOptions({ ca, ...options });
  made.setRetryPolicy(new NoRetry());
  made.on('error', (error) => { throw error; });
  return made;
}

async function badKeyIsRefused(transport) {
  const stranger = await client(transport, Buffer.from('not the key').toString('base64'));
  await assert.rejects(within('the refusal', stranger.open()), { name: 'UnauthorizedError' });
}

async function everything(transport, name) {
  // Short tokens: renewed every second on the open connection.
  const tokenRenewal = { tokenValidTimeInSeconds: 4, tokenRenewalMarginInSeconds: 3 };
  const device = await client(transport, key, { tokenRenewal });
  await within('open', device.open());

  const message = new Message(JSON.stringify({ currentTemperature: 21.5 }));
  message.messageId = `${name}-1`;
  message.contentType = 'application/json';
  message.contentEncoding = 'utf-8';
  message.properties.add('iothub-creation-time-utc', '2026-01-01T00:00:00Z');
  await within('sendEvent', device.sendEvent(message));
  const recorded = (await control('GET', '/messages')).pop();
  assert.strictEqual(recorded.messageId, `${name}-1`);
  assert.strictEqual(recorded.contentType, 'application/json');
  assert.deepStrictEqual(JSON.parse(recorded.body), { currentTemperature: 21.5 });
  assert.strictEqual(recorded.properties['iothub-creation-time-utc'], '2026-01-01T00:00:00Z');

  const twin = await within('the twin', device.getTwin());
  // The SDK subscribes behind `on` and does not say when it has: the service side speaks until it is heard.
  let heard = null;
  twin.on('properties.desired', (change) => { if (change.mark === name) heard = heard || change; });
  const versions = [];
  await until('the desired update', async () => {
    versions.push((await control('PATCH', '/twins/roof/desired', { mark: name, turn: versions.length })).version);
    return heard;
  });
  assert.ok(versions.includes(heard.$version), `version ${heard.$version} of ${versions}`);
  const report = new Promise((resolve, reject) => {
    twin.properties.reported.update({ seen: name }, (error) => (error ? reject(error) : resolve()));
  });
  await within('the reported update', report);
  assert.strictEqual((await control('GET', '/twins/roof')).reported.seen, name);

  device.onDeviceMethod('echo', (request, response) => {
    response.send(200, { echo: request.payload }, (error) => { if (error) throw error; });
  });
  const call = { methodName: 'echo', payload: { a: 1 }, responseTimeoutInSeconds: 5, connectTimeoutInSeconds: 5 };
  const answer = await within('the method', control('POST', '/twins/roof/methods', call));
  assert.deepStrictEqual([answer.status, answer.payload], [200, { echo: { a: 1 } }]);

  const received = new Promise((resolve) => { device.on('message', resolve); });
  const { id } = await control('POST', '/c2d/roof', { body: 'hello', properties: { from: name } });
  const toDevice = await within('the message', received);
  assert.strictEqual(toDevice.data.toString(), 'hello');
  await within('complete', device.complete(toDevice));
  await until('completed', async () => (await control('GET', '/c2d')).find((m) => m.id === id).state === 'completed');

  const connection = (await control('GET', '/connections')).pop().id;
  await until('two renewals on one connection', async () => {
    const tokens = (await putTokens()).filter((event) => event.connection === connection);
    return tokens.filter((event) => event.detail.status === 200).length >= 3;
  });
  await within('sendEvent after renewal', device.sendEvent(new Message('{}')));
  assert.strictEqual((await control('GET', '/connections')).pop().id, connection);
  await within('close', device.close());
}

(async () => {
  for (const [transport, name] of [[Amqp, 'amqp'], [AmqpWs, 'websocket']]) {
    await badKeyIsRefused(transport);
    await everything(transport, name);
    console.log(`${name}: bad key refused; open, sendEvent, twin, desired, reported, method, message, renewals, close`);
  }
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
