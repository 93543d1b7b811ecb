"""The models of Debian's python3-kubernetes as {model: {field: type}} on standard output, types in the words of compare.py."""
import json
import re

import kubernetes.client.models as models


def word(text):
    if text.startswith("list["):
        return "array<" + word(text[5:-1]) + ">"
    if text.startswith("dict(str, "):
        return "map<" + word(text[10:-1]) + ">"
    return {"str": "string", "int": "integer", "bool": "boolean", "float": "number", "datetime": "time", "object": "any"}.get(text, text)


out = {}
for name in dir(models):
    model = getattr(models, name)
    if not re.match(r"^[A-Za-z0-9]*V\d", name) or not hasattr(model, "openapi_types"):
        continue
    out[name] = {model.attribute_map[field]: word(kind) for field, kind in model.openapi_types.items()}
print(json.dumps(out))
