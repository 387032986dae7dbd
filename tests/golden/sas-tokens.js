// Makes sas-tokens.json with Microsoft's Node SDK, for the test of src/identity/sas_token.rs.
// Run it where `npm install azure-iot-device` was run: node sas-tokens.js > sas-tokens.json
const { SharedAccessSignature } = require('azure-iot-device');

const keys = [Buffer.alloc(32, 'k'), Buffer.alloc(64, 0xff), Buffer.from('short key, 16 b.')];
const hosts = ['my-hub.azure-devices.net', '10.0.0.7', 'Mixed-Case.Example.net'];
const devices = ['station-7', "all-.+%_#?!(),:=@$'legal", 'star*', 'UPPER.lower_0123', 'a'.repeat(128)];
const tokens = [];
for (const host of hosts)
  for (const deviceId of devices)
    keys.forEach((key, i) => {
      const expiry = 1700000000 + 3600 * i;
      const token = SharedAccessSignature.create(host, deviceId, key.toString('base64'), expiry).toString();
      tokens.push({ host, deviceId, key: key.toString('base64'), expiry, token });
    });
console.log(JSON.stringify(tokens, null, 1));
