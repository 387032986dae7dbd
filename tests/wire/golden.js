// Reads the golden messages with rhea: they must say what stands beside them. With --write it puts down what rhea
// reads, for a person to look through before it is kept.
'use strict';

const assert = require('assert');
const fs = require('fs');
const path = require('path');
const { sections } = require('./typed.js');

const file = path.join(__dirname, '../golden/messages.json');
const golden = JSON.parse(fs.readFileSync(file, 'utf8'));
const reading = ({ hex, batch }) => sections(Buffer.from(hex.join(''), 'hex'), batch);

if (process.argv[2] === '--write') {
  for (const entry of golden) entry.sections = reading(entry);
  fs.writeFileSync(file, `${JSON.stringify(golden, null, 1)}\n`);
} else {
  assert.ok(golden.length >= 5, `${golden.length} golden messages`);
  for (const entry of golden) assert.deepStrictEqual(reading(entry), entry.sections, entry.name);
}
