"""Our schemas against the models of a client library that was generated from upstream's.

compare.py OPENAPI_V2.json MODELS.json KNOWN.txt: each field that the library knows is ours, of the same type,
or stands in KNOWN.txt with the reason ("Model.field  reason", "Model  reason"); an entry that no longer applies fails too.
Prints what differs; the last line counts. Versions of groups that we do not serve are left out: they were removed.
"""
import json
import re
import sys

definitions = json.load(open(sys.argv[1]))["definitions"]
models = json.load(open(sys.argv[2]))
known = {}
for line in open(sys.argv[3]):
    if line.strip() and not line.startswith("#"):
        entry, reason = line.split(None, 1)
        known[entry] = reason.strip()


def parts(name):
    """io.k8s.api.core.v1.Pod: (core, v1, Pod)"""
    words = name.split(".")
    return words[-3], words[-2], words[-1]


by_name = {}
for full in definitions:
    group, version, kind = parts(full)
    by_name.setdefault((version, kind), []).append(full)
served = {(group, version) for group, version, _ in map(parts, definitions)}


def candidates(model):
    match = re.match(r"^([A-Z][a-z0-9]*?)??V(\d+(?:(?:alpha|beta)\d+)?)(.+)$", model)
    group, version, kind = match.group(1), "v" + match.group(2), match.group(3)
    found = by_name.get((version, kind), [])
    if group:
        found = [full for full in found if parts(full)[0].startswith(group.lower())] or found
    return version, kind, found


def ours(schema):
    """The type of one of our properties in the words of the models; a set, where several say the same."""
    if "$ref" in schema:
        target = schema["$ref"].split("/")[-1]
        inner = definitions[target]
        if inner.get("properties"):
            return {"ref:" + target}
        return ours(inner)
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"any", "string"}
    kind = schema.get("type")
    if kind == "array":
        return {"array<" + inner + ">" for inner in ours(schema.get("items", {}))}
    if kind == "object" and "additionalProperties" in schema:
        return {"map<" + inner + ">" for inner in ours(schema["additionalProperties"])} | {"any"}
    if kind == "string" and schema.get("format") == "date-time":
        return {"time"}
    if kind in ("string", "integer", "boolean", "number"):
        return {kind}
    return {"any"}


def same(theirs, mine):
    found = re.match(r"^(array|map)<(.*)>$", theirs)
    if found:
        return any(one.startswith(found.group(1) + "<") and same(found.group(2), {one[len(found.group(1)) + 1:-1]}) for one in mine)
    if theirs in mine:
        return True
    refs = {one[4:] for one in mine if one.startswith("ref:")}
    return any(full in refs for full in (candidates(theirs)[2] if re.match(r"^[A-Za-z0-9]*V\d", theirs) else []))


tells_required = any(theirs.endswith("!") for attributes in models.values() for theirs in attributes.values())
differences = {}
fields = 0
for model, attributes in sorted(models.items()):
    version, kind, found = candidates(model)
    if not found:
        # A kind of a version that is gone, or one that we lack in a version that is not.
        if version == "v1" or version == "v2":
            differences[model] = "is not ours"
        continue
    best = None
    for full in found:
        properties = definitions[full].get("properties", {})
        wrong = {}
        for field, theirs in attributes.items():
            needed = theirs.endswith("!")
            theirs = theirs.rstrip("!")
            if field not in properties:
                wrong[model + "." + field] = "is not ours"
            elif tells_required and needed != (field in definitions[full].get("required", [])):
                wrong[model + "." + field] = "is required" if needed else "is optional, ours is required"
            elif not same(theirs, ours(properties[field])):
                wrong[model + "." + field] = f"is {theirs}, ours {'/'.join(sorted(ours(properties[field])))}"
        if best is None or len(wrong) < len(best):
            best = wrong
    fields += len(attributes)
    differences.update(best)

new = {entry: why for entry, why in differences.items() if entry not in known}
stale = [entry for entry in known if entry not in differences]
for entry, why in sorted(new.items()):
    print(entry, why)
for entry in stale:
    print(entry, "stands in the list and no longer differs")
print(f"{len(models)} models, {fields} fields, {len(known)} known differences, {len(new)} new, {len(stale)} stale")
sys.exit(1 if new or stale else 0)
