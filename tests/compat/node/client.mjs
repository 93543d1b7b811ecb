// @kubernetes/client-node against our server. Run by tests/compat/node_test.cpp with KUBECONFIG set, from the folder
// that holds node_modules; prints one line for each check, and fails loudly.
import assert from 'node:assert/strict';
import { PassThrough, Readable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const kc = new k8s.KubeConfig();
kc.loadFromDefault();
const core = kc.makeApiClient(k8s.CoreV1Api);
const apps = kc.makeApiClient(k8s.AppsV1Api);
const namespace = 'default';

const made = await core.createNamespacedConfigMap({
  namespace, body: { metadata: { name: 'a', labels: { x: '1' } }, data: { k: 'v' } } });
assert.ok(made.metadata.uid);
assert.deepEqual(made.data, { k: 'v' });
assert.ok(made.metadata.creationTimestamp instanceof Date);
console.log('typed create');

const patched = await core.patchNamespacedConfigMap({
  name: 'a', namespace, body: [{ op: 'replace', path: '/data/k', value: 'w' }] });
assert.deepEqual(patched.data, { k: 'w' });
console.log('a patch is a JSON patch');

const merged = await core.patchNamespacedConfigMap(
  { name: 'a', namespace, body: { data: { k: null, n: '2' } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
assert.deepEqual(merged.data, { n: '2' });
console.log('merge patch');

await assert.rejects(core.readNamespacedConfigMap({ name: 'none', namespace }), (error) => {
  assert.equal(error.code, 404);
  assert.equal(JSON.parse(error.body).reason, 'NotFound');
  return true;
});
console.log('typed error');

await apps.createNamespacedDeployment({ namespace, body: {
  metadata: { name: 'w' },
  spec: { selector: { matchLabels: { app: 'w' } },
          template: { metadata: { labels: { app: 'w' } }, spec: { containers: [{ name: 'main', image: 'web:v1' }] } } } } });
const scale = await apps.readNamespacedDeploymentScale({ name: 'w', namespace });
assert.equal(scale.spec.replicas, 1);
await apps.replaceNamespacedDeploymentScale({ name: 'w', namespace, body: { ...scale, spec: { replicas: 3 } } });
assert.equal((await apps.readNamespacedDeployment({ name: 'w', namespace })).spec.replicas, 3);
console.log('deployment and scale');

const objects = k8s.KubernetesObjectApi.makeApiClient(kc);
const wanted = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace }, data: { a: '1' } };
const apply = (manager, force) =>
  objects.patch(wanted, undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
const applied = await apply('one', false);
assert.equal(applied.metadata.managedFields[0].manager, 'one');
wanted.data = { a: '2' };
await assert.rejects(apply('two', false), (error) => error.code === 409);
assert.deepEqual((await apply('two', true)).data, { a: '2' });
console.log('server-side apply, conflict and force');

const seen = [];
const informer = k8s.makeInformer(kc, `/api/v1/namespaces/${namespace}/configmaps`,
  () => core.listNamespacedConfigMap({ namespace, labelSelector: 'x=1' }), 'x=1');
const gone = new Promise((resolve) => informer.on('delete', (object) => resolve(object.metadata.name)));
informer.on('add', (object) => seen.push(object.metadata.name));
await informer.start();
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'b', labels: { x: '1' } } } });
await core.deleteNamespacedConfigMap({ name: 'b', namespace });
assert.equal(await gone, 'b');
await informer.stop();
assert.deepEqual(seen.sort(), ['a', 'b']);
console.log('informer');

await core.createNamespacedPod({ namespace, body: {
  metadata: { name: 'p' }, spec: { nodeName: 'n1', containers: [{ name: 'c', image: 'i' }] } } });
assert.equal(await core.readNamespacedPodLog({ name: 'p', namespace, tailLines: 1 }), 'third line\n');
console.log('log');

const run = (command, input) => new Promise((resolve, reject) => {
  const out = new PassThrough(), err = new PassThrough();
  let text = '', errors = '';
  out.on('data', (data) => { text += data; });
  err.on('data', (data) => { errors += data; });
  new k8s.Exec(kc).exec(namespace, 'p', 'c', command, out, err, input ?? null, false,
    (status) => resolve({ text, errors, status })).catch(reject);
});
assert.equal((await run(['echo', 'two words', '&x'])).text, 'two words &x\n');
const failed = await run(['exit', '3']);
assert.equal(failed.errors, 'leaving with 3\n');
assert.equal(failed.status.status, 'Failure');
assert.equal(failed.status.details.causes[0].message, '3');
console.log('exec over a WebSocket');

const forward = new k8s.PortForward(kc, true);
const answer = await new Promise((resolve, reject) => {
  const out = new PassThrough();
  out.on('data', (data) => resolve(data.toString()));
  forward.portForward(namespace, 'p', [80], out, null, Readable.from(['ping'])).catch(reject);
});
assert.equal(answer, 'echo: ping');
console.log('port-forward over a WebSocket');

await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'x=1' });
assert.equal((await core.listNamespacedConfigMap({ namespace, labelSelector: 'x=1' })).items.length, 0);
console.log('delete collection');
process.exit(0);
