"""The interfaces of npm's kubernetes-types (FOLDER) as {model: {field: type}} on standard output, types in the words of
compare.py; a "!" behind a type: the field is not optional."""
import json
import os
import re
import sys

root = sys.argv[1]
out = {}


def prefix(path):
    """core/v1: CoreV1; apiextensions/v1: ApiextensionsV1"""
    group, version = path.split("/")
    return group.lower().capitalize() + version[0].upper() + version[1:]


for folder, _, files in sorted(os.walk(root)):
    for file in files:
        here = os.path.relpath(os.path.join(folder, file), root)[:-5]
        if not file.endswith(".d.ts") or not re.match(r"^[a-z]+/v\d", here):
            continue
        text = open(os.path.join(folder, file)).read()
        text = re.sub(r"/\*\*.*?\*/", "", text, flags=re.S)
        names = {}  # how other types are called here
        for imported, source in re.findall(r'import \{ ([^}]*) \} from "([^"]*)"', text):
            there = os.path.normpath(os.path.join(os.path.dirname(here), source))
            for each in imported.split(","):
                own = each.split(" as ")
                names[own[-1].strip()] = (there, own[0].strip())

        def word(kind):
            kind = kind.strip()
            found = re.match(r"^Array<(.*)>$", kind, re.S)
            if found:
                return "array<" + word(found.group(1)) + ">"
            found = re.match(r"^\{\s*\[name: string\]: (.*);\s*\}$", kind, re.S)
            if found:
                return "map<" + word(found.group(1)) + ">"
            if kind.startswith('"'):
                return "string"
            simple = {"string": "string", "number": "integer", "boolean": "boolean", "Time": "time", "MicroTime": "time",
                      "Quantity": "string", "IntOrString": "any", "RawExtension": "any", "FieldsV1": "any", "unknown": "any",
                      "any": "any", "number | string": "any", "JSON": "any", "JSONSchemaPropsOrBool": "any", "JSONSchemaPropsOrArray": "any",
                      "JSONSchemaPropsOrStringArray": "any"}
            if kind in simple:
                return simple[kind]
            there, own = names.get(kind, (here, kind))
            return prefix(there) + own if "/v" in there else "any"

        for name, body in re.findall(r"export interface (\w+) \{(.*?)\n\}", text, re.S):
            fields = {}
            for field, optional, kind in re.findall(r'^    (?:readonly )?"?([\w$-]+)"?(\??): ((?:\{.*?\n    \}|.)*?);$', body, re.M | re.S):
                fields[field] = word(kind) + ("" if optional else "!")
            out[prefix(here) + name] = fields
print(json.dumps(out))
