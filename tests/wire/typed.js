// AMQP values as JSON that keeps their types: {"symbol":"utf-8"}, {"int":200}, {"map":{"symbol status":{"int":200}}}.
// Read by rhea's decoder and, as a proof that sizes and widths are right too, written again by its encoder: the bytes
// must be the same. Knows no link.
'use strict';

const { types, message } = require('rhea');

const NAMES = {
  Null: 'null', Boolean: 'boolean', True: 'boolean', False: 'boolean',
  Ubyte: 'ubyte', Ushort: 'ushort', Uint: 'uint', SmallUint: 'uint', Uint0: 'uint',
  Ulong: 'ulong', SmallUlong: 'ulong', Ulong0: 'ulong',
  Byte: 'byte', Short: 'short', Int: 'int', SmallInt: 'int', Long: 'long', SmallLong: 'long',
  Float: 'float', Double: 'double', CharUTF32: 'char', Timestamp: 'timestamp', Uuid: 'uuid',
  Vbin8: 'binary', Vbin32: 'binary', Str8: 'string', Str32: 'string', Sym8: 'symbol', Sym32: 'symbol',
  List0: 'list', List8: 'list', List32: 'list', Map8: 'map', Map32: 'map', Array8: 'array', Array32: 'array',
};

// AMQP 1.0 part 3, section 3.2.
const SECTIONS = {
  0x70: 'header', 0x71: 'delivery_annotations', 0x72: 'message_annotations', 0x73: 'properties',
  0x74: 'application_properties', 0x75: 'data', 0x76: 'sequence', 0x77: 'value', 0x78: 'footer',
};
const PROPERTIES = [
  'message_id', 'user_id', 'to', 'subject', 'reply_to', 'correlation_id', 'content_type', 'content_encoding',
  'absolute_expiry_time', 'creation_time', 'group_id', 'group_sequence', 'reply_to_group_id',
];

// One value; a null is null.
function typed(value) {
  if (value.descriptor) {
    const { descriptor, ...bare } = value;
    return { [`0x${Number(descriptor.value).toString(16)}`]: typed(bare) };
  }
  const name = NAMES[value.type.name];
  if (name === undefined) throw new Error(`rhea read a ${value.type.name}, which is in no table here`);
  switch (name) {
    case 'null': return null;
    case 'list': return { list: value.value.map(typed) };
    case 'array': return { array: value.value.map(typed) };
    case 'map': return { map: map(value.value) };
    case 'binary': return { binary: text(value.value) };
    case 'boolean': return { boolean: Boolean(value.value) };
    case 'uuid': return { uuid: value.value.toString('hex') };
    default: return { [name]: Buffer.isBuffer(value.value) ? value.value.toString('hex') : value.value };
  }
}

// The type stands before the key.
function map(items) {
  const entries = {};
  for (let i = 0; i < items.length; i += 2) {
    const key = `${NAMES[items[i].type.name]} ${items[i].value}`;
    if (key in entries) throw new Error(`the key ${key} comes twice in a map`);
    entries[key] = typed(items[i + 1]);
  }
  return entries;
}

// Text where it is text, else hex.
function text(bytes) {
  const read = bytes.toString('utf8');
  return Buffer.from(read, 'utf8').equals(bytes) ? read : `0x${bytes.toString('hex')}`;
}

// A list with named fields, nulls left out.
function fields(values, names) {
  if (values.length > names.length) throw new Error(`${values.length} fields, there are ${names.length} names`);
  const present = values.map((value, index) => [names[index], typed(value)]).filter(([, value]) => value !== null);
  return Object.fromEntries(present);
}

// Reads one value at `offset` and proves that rhea would write it so.
function read(bytes, offset = 0) {
  const reader = new types.Reader(bytes);
  reader.skip(offset);
  const value = reader.read();
  if (reader.position > bytes.length) throw new Error('a value ends behind its buffer');
  const writer = new types.Writer();
  writer.write(value);
  const [ours, theirs] = [bytes.subarray(offset, reader.position), writer.toBuffer()];
  if (!theirs.equals(ours)) {
    throw new Error(`rhea writes ${theirs.toString('hex')} where the station wrote ${ours.toString('hex')}`);
  }
  return { value, end: reader.position };
}

// A message, section by section in the order on the wire. With `batch` each data section is a message itself.
function sections(bytes, batch = false) {
  const found = [];
  for (let offset = 0; offset < bytes.length;) {
    const { value, end } = read(bytes, offset);
    const name = value.descriptor && SECTIONS[value.descriptor.value];
    if (!name) throw new Error(`no section of a message: ${JSON.stringify(value)}`);
    if (NAMES[value.descriptor.type.name] !== 'ulong') throw new Error('a section whose descriptor is no ulong');
    const { descriptor, ...bare } = value;
    const content = name === 'properties' ? fields(value.value, PROPERTIES)
      : name === 'data' && batch ? sections(value.value)
        : typed(bare);
    found.push({ [name]: content });
    offset = end;
  }
  // rhea's own idea of a message has to agree with the sections.
  const whole = message.decode(bytes);
  const id = found.find((section) => section.properties)?.properties.message_id;
  if (id?.string !== undefined && whole.message_id !== id.string) throw new Error(`rhea read the id ${whole.message_id}`);
  return found;
}

module.exports = { fields, read, sections, typed };
