// Plays IoT Hub for one station on rhea, an AMQP implementation that is not the station's: takes SASL ANONYMOUS,
// tokens, telemetry, twin requests and method answers, and tells every frame that it reads, with the AMQP type of
// each value, as one JSON object a line on standard output. What the hub's service side would do comes as one JSON
// object a line on standard input. Judges nothing but the encoding: main.rs knows what ought to come.
// Arguments: certificate, its key. The first line out is {"port": number}.
'use strict';

const fs = require('fs');
const readline = require('readline');
const rhea = require('rhea');
const frames = require('rhea/lib/frames.js');
const { fields, read, sections } = require('./typed.js');

const { message, types } = rhea;
const BATCH = 0x80013700;
// Small, so that a batch has to be split over several frames.
const MAX_FRAME_SIZE = 1024;
const MAX_MESSAGE_SIZE = 262144;

const [certificate, key] = process.argv.slice(2);
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const fail = (error) => { tell({ error: String(error.stack || error) }); process.exitCode = 1; };

// --- what is read ----------------------------------------------------------------------------------------
const addresses = new Map(); // the station's handles
const unfinished = new Map(); // transfers that have more frames to come

/** The names of a performative's fields, in order, as rhea has them. */
function names(performative) {
  const described = Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(performative)));
  return described.filter(([, property]) => property.get).map(([name]) => name);
}

function record(bytes, frame) {
  if (!frame.performative) return tell({ frame: 'empty' });
  read(bytes, bytes[4] * 4);
  const name = frame.performative.constructor.toString().split('#')[0];
  const told = { frame: name, fields: fields(frame.performative.value, names(frame.performative)) };
  const { handle } = frame.performative;
  if (name === 'attach') {
    const terminus = frame.performative.role ? frame.performative.source : frame.performative.target;
    addresses.set(handle, terminus.value[0].value);
  }
  if (handle !== undefined && handle !== null) told.link = addresses.get(handle);
  if (name !== 'transfer') return tell(told);

  const transfer = unfinished.get(handle) || { first: told, parts: [] };
  transfer.parts.push(frame.payload || Buffer.alloc(0));
  unfinished.set(handle, transfer);
  if (frame.performative.more) return undefined;
  unfinished.delete(handle);
  const batch = transfer.first.fields.message_format?.uint === BATCH;
  const content = sections(Buffer.concat(transfer.parts), batch);
  return tell({ ...transfer.first, frames: transfer.parts.length, sections: content });
}

const readFrame = frames.read_frame;
frames.read_frame = (bytes) => {
  const frame = readFrame(bytes);
  try { record(bytes, frame); } catch (error) { fail(error); }
  return frame;
};

// --- what is answered ------------------------------------------------------------------------------------
const senders = new Map(); // by address
let version = 1;
let desired = { $version: 1 };

const data = (value) => message.data_section(Buffer.from(value === undefined ? '' : JSON.stringify(value)));

function answerToken(request) {
  senders.get('$cbs').send({
    correlation_id: request.message_id,
    application_properties: { 'status-code': types.wrap_int(200), 'status-description': 'OK' },
  });
}

function answerTwin(address, request) {
  const { operation } = request.message_annotations;
  const annotations = { status: types.wrap_int(operation === 'GET' ? 200 : 204) };
  if (operation === 'PATCH') annotations.version = types.wrap_long(version += 1);
  const body = operation === 'GET' ? data({ desired, reported: { $version: version } }) : data();
  senders.get(address).send({ correlation_id: request.correlation_id, message_annotations: annotations, body });
}

rhea.on('receiver_open', ({ receiver }) => {
  const { address } = receiver.target;
  receiver.set_target({ address });
  receiver.local.attach.max_message_size = MAX_MESSAGE_SIZE;
  receiver.on('message', (context) => {
    if (address === '$cbs') answerToken(context.message);
    else if (address.endsWith('/twin')) answerTwin(address, context.message);
  });
});
rhea.on('sender_open', ({ sender }) => {
  const { address } = sender.source;
  sender.set_source({ address });
  if (address.endsWith('/twin')) sender.local.attach.snd_settle_mode = 1;
  senders.set(address, sender);
  for (const outcome of ['accepted', 'rejected', 'released']) {
    sender.on(outcome, () => tell({ outcome, link: address }));
  }
});
for (const event of ['connection_error', 'session_error', 'protocol_error', 'error']) {
  rhea.on(event, (context) => fail(context?.connection?.error || context));
}

// --- what the service asks -------------------------------------------------------------------------------
/** {"uuid":"<hex>"}, {"string":"a"}, {"ulong":7} or {"binary":"a"} as an id of that type. */
function id(asked) {
  const [[type, value]] = Object.entries(asked);
  switch (type) {
    case 'uuid': return types.wrap_uuid(Buffer.from(value, 'hex'));
    case 'string': return types.wrap_string(value);
    case 'ulong': return types.wrap_ulong(value);
    case 'binary': return types.wrap_binary(Buffer.from(value));
    default: throw new Error(`an id cannot be a ${type}`);
  }
}

function ask({ link, desire, call, say }) {
  const sender = senders.get(link);
  if (desire) {
    desired = { ...desired, ...desire, $version: desired.$version + 1 };
    const annotations = {
      resource: '/notifications/twin/properties/desired', version: types.wrap_long(desired.$version),
    };
    sender.send({ message_annotations: annotations, body: data({ ...desire, $version: desired.$version }) });
  } else if (call) {
    sender.send({
      correlation_id: id(call.id), application_properties: { 'IoThub-methodname': call.name }, body: data(call.payload),
    });
  } else {
    sender.send({ message_id: say.id, body: data(say.body) });
  }
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  try { ask(JSON.parse(line)); } catch (error) { fail(error); }
}).on('close', () => process.exit());

rhea.sasl_server_mechanisms.enable_anonymous();
const server = rhea.listen({
  transport: 'tls', host: '127.0.0.1', port: 0, cert: fs.readFileSync(certificate), key: fs.readFileSync(key),
  max_frame_size: MAX_FRAME_SIZE, idle_time_out: 240000,
});
server.on('listening', () => tell({ port: server.address().port }));
