// The models of @kubernetes/client-node as {model: {field: type}} on standard output, types in the words of compare.py.
import * as k8s from '@kubernetes/client-node';

function word(type, format) {
  let found;
  if ((found = /^Array<(.*)>$/.exec(type))) return `array<${word(found[1], '')}>`;
  if ((found = /^(?:Set)<(.*)>$/.exec(type))) return `array<${word(found[1], '')}>`;
  if ((found = /^\{ \[key: string\]: (.*); \}$/.exec(type))) return `map<${word(found[1], '')}>`;
  if (type === 'number') return format.startsWith('int') || format === '' ? 'integer' : 'number';
  if (type === 'Date' || type === 'V1MicroTime') return 'time';
  if (type === 'any' || type === 'IntOrString' || type === 'object') return 'any';
  return type;
}

const out = {};
for (const [name, model] of Object.entries(k8s)) {
  if (!/^[A-Za-z0-9]*V\d/.test(name) || typeof model.getAttributeTypeMap !== 'function') continue;
  out[name] = {};
  for (const { baseName, type, format } of model.getAttributeTypeMap()) out[name][baseName] = word(type, format);
}
console.log(JSON.stringify(out));
