"""A second reader of versions, in plain Python, written from docs/format.md alone.

It shares no line with saec and is as slow as it is plain: it is there to find out whether the page says enough. Only
what the page does not say (what is raised) is our choice: AssertionError for a version that must be refused.
"""

import hashlib
import json
import math
import struct
import zlib
from pathlib import Path

MASK = 2**64 - 1
HEADER_LIMIT = MANIFEST_LIMIT = 1 << 20
ELEMENT = {"I8": "b", "U8": "B", "U16": "H", "U32": "I", "U64": "Q", "F16": "e", "F32": "f"}


def open_manifest(folder: Path) -> dict:
    """The manifest of a version, after comparing id, files, sizes and hashes."""
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    assert len(text.encode()) <= MANIFEST_LIMIT
    manifest = json.loads(text)
    assert manifest["format"] == 2
    canonical = text.replace(f',"version":"{folder.name}"', "")
    hour = manifest["hour"].replace("-", "")
    assert f"{hour}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}" == manifest["version"] == folder.name
    assert {path.name for path in folder.iterdir()} == {*manifest["files"], "manifest.json"}
    for name, wanted in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (wanted["bytes"], wanted["sha256"]), name
    return manifest


def tensors(path: Path) -> dict[str, tuple[list[int], list, str]]:
    """Shape, elements and type of every tensor of a container."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    assert size <= HEADER_LIMIT
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        count = math.prod(entry["shape"])
        begin, _ = entry["data_offsets"]
        elements = struct.unpack_from(f"<{count}{ELEMENT[entry['dtype']]}", data, 8 + size + begin)
        found[name] = (entry["shape"], list(elements), entry["dtype"])
    return found


def live(store: Path) -> str | None:
    """The version that is live in a store."""
    newest = max((store / "releases").glob("????????.json"))
    record = json.loads(newest.read_text(encoding="utf-8"))
    assert record["sequence"] == int(newest.stem)
    return record["version"]


class Reader:
    """One version."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        schema = json.loads((folder / "schema.json").read_text(encoding="utf-8"))
        assert schema["format"] == 3
        self.hash_key, self.time_column = schema["data"]["hash_key"], schema["data"]["time_column"]
        self.fields, self.crosses, self.model = schema["fields"], schema["crosses"], schema["model"]
        self.slot_fields = []
        for field, described in enumerate([*self.fields, *self.crosses]):
            many = isinstance(described, dict) and described["kind"] == "list"
            self.slot_fields += [field] * (described["max_values"] if many else 1)
        index = tensors(folder / "index.safetensors")
        shape, layout, _ = index["layout"]
        assert shape in ([6], [len(layout) // 6, 6])
        self.shards = [layout[i : i + 6] for i in range(0, len(layout), 6)]
        self.words = index["cells"][1]
        self.codebooks = tensors(folder / f"{prefix}codebooks.safetensors")
        self.counts = self.codebooks["counts_F"][1]
        self.network = self.parameters(tensors(folder / f"{prefix}network.safetensors"))
        ensemble = not prefix and (folder / "original_codebooks.safetensors").exists()
        self.original = Reader(folder, "original_") if ensemble else None

    def score(self, row: dict) -> float:
        """Probability of a click for one raw row."""
        return self.probability(self.codes(self.keys(row)))

    # From a row to feature keys

    def blake(self, purpose: str, size: int, text: str) -> bytes:
        key = self.hash_key.encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(key).digest() if len(key) > 64 else key
        return hashlib.blake2b(text.encode(), digest_size=size, key=key, person=purpose.encode()).digest()

    def reserved(self, name: str, meaning: str) -> int:
        return int.from_bytes(self.blake("saec reserved", 8, f"{name}\0{meaning}"), "little") or 1

    def keys(self, row: dict) -> list[int]:
        """The S keys of a row; the time, where one is needed, is in milliseconds since the epoch."""
        of_field = {}
        for field in self.fields:
            of_field[field["name"]] = self.keys_of_field(field, row)
        for cross in self.crosses:
            name = "&".join(cross)
            message = b"".join(struct.pack("<Q", of_field[part][0]) for part in cross)
            of_field[name] = [sip(self.blake("saec field", 16, name), message)]
        return [key for keys in of_field.values() for key in keys]

    def keys_of_field(self, field: dict, row: dict) -> list[int]:
        k = self.blake("saec field", 16, field["name"])
        if field["kind"] == "hour_of_day":
            return [sip(k, struct.pack("<q", row[self.time_column] // 3_600_000 % 24))]
        if field["kind"] == "day_of_week":  # 1970-01-01 was a Thursday
            return [sip(k, struct.pack("<q", (row[self.time_column] // 86_400_000 + 3) % 7))]
        value = row.get(field["column"] or field["name"])
        if field["kind"] != "list":
            return [self.key_of_value(field, k, value)]
        if not value:
            keys = [self.reserved(field["name"], "null" if value is None else "empty")]
        else:
            keys = [self.key_of_value(field, k, each) for each in value[: field["max_values"]]]
        return keys + [0] * (field["max_values"] - len(keys))

    def key_of_value(self, field: dict, k: bytes, value) -> int:
        if value is None:
            return self.reserved(field["name"], "null")
        if field["type"] == "string":
            message = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
            if len(message) > 256:
                message = hashlib.blake2b(message, digest_size=32, key=k, person=b"saec long").digest()
            return sip(k, message)
        if field["kind"] == "numeric":
            x, boundaries = float(value), field["boundaries"]
            if field["type"] == "float":
                x, boundaries = single(x), [single(edge) for edge in boundaries]
            return sip(k, struct.pack("<q", bucket(x, boundaries)))
        if field["cap"] is not None:
            value = min(value, field["cap"])
        return sip(k, struct.pack("<Q", int(value) & MASK))

    # From keys to codes

    def codes(self, keys: list[int]) -> list[int]:
        """The code of each slot, -1 for padding."""
        return [self.code(key, field) for key, field in zip(keys, self.slot_fields, strict=True)]

    def code(self, key: int, field: int) -> int:
        if key == 0:
            return -1
        entry = self.entry(key)
        return 0 if entry is None or entry + 1 >= self.counts[field] + 2 else entry + 1

    def entry(self, key: int) -> int | None:
        shard = ((mix(key, 0xD1B54A32D192ED03) >> 32) * len(self.shards)) >> 32
        seed, _, length, segments, code_bits, print_bits = self.shards[shard]
        if length == 0:
            return None
        width = code_bits + print_bits
        start = sum(-(-(g + 3) * n * width // 32) for _, _, n, g, _, _ in self.shards[:shard])
        h = mix(key, seed)
        a = ((h >> 32) * (segments * length)) >> 32
        b = (a + length) ^ ((h >> 18) & (length - 1))
        c = (a + 2 * length) ^ (h & (length - 1))
        d = (a + 3 * length) ^ ((h * 0x9E3779B97F4A7C15 & MASK) >> 30 & (length - 1))
        value = 0
        for place in (a, b, c, d):
            value ^= self.cell(start, place, width)
        known = print_bits == 0 or value >> code_bits == (h * 0x9E3779B97F4A7C15 & MASK) >> (64 - print_bits)
        return value & ((1 << code_bits) - 1) if known else None

    def cell(self, start: int, number: int, width: int) -> int:
        value = 0
        for bit in range(width):
            place = number * width + bit
            value |= (self.words[start + place // 32] >> place % 32 & 1) << bit
        return value

    # From codes to a probability

    def parameters(self, stored: dict) -> dict:
        """Shape and numbers of each parameter."""
        shapes = self.shapes()
        steps, packed = stored["steps_P"][1], bytes(stored["packed"][1])
        multiples = struct.iter_unpack("b", zlib.decompress(packed))
        return {
            name: (shapes[name], [next(multiples)[0] * step for _ in range(math.prod(shapes[name]))])
            for name, step in zip(sorted(shapes), steps, strict=True)
        }

    def shapes(self) -> dict:
        model, units = self.model, len(self.counts) * self.model["width"]
        shapes = {"bias": [], "first_order_FD": [len(self.counts), model["width"]]}
        sizes = [units, *model["hidden"], 1]
        for layer in range(len(sizes) - 1):
            shapes[f"deep.{2 * layer}.weight"] = [sizes[layer + 1], sizes[layer]]
            shapes[f"deep.{2 * layer}.bias"] = [sizes[layer + 1]]
        if model["network"] == "dcnv2":
            for layer in range(model["cross_layers"]):
                shapes[f"interaction.down.{layer}.weight"] = [model["cross_rank"], units]
                shapes[f"interaction.up.{layer}.weight"] = [units, model["cross_rank"]]
                shapes[f"interaction.up.{layer}.bias"] = [units]
            shapes |= {"interaction.out.weight": [1, units], "interaction.out.bias": [1]}
        return shapes

    def codeword(self, place: int) -> list[float]:
        (_, stored), elements, dtype = self.codebooks["codewords_TD"]
        numbers = elements[place * stored : (place + 1) * stored]
        if dtype == "U8":
            width = self.model["width"]
            numbers = [half - 8 for pair in numbers for half in (pair & 15, pair >> 4)][:width]
        scale = self.codebooks["scale_T"][1][place] if "scale_T" in self.codebooks else 1.0
        return [number * scale for number in numbers]

    def vectors(self, codes: list[int]) -> list[list[float]]:
        found = []
        for field in range(len(self.counts)):
            start = sum(count + 2 for count in self.counts[:field])
            used = [code for code, of in zip(codes, self.slot_fields, strict=True) if of == field and code >= 0]
            words = [self.codeword(start + code) for code in used]
            found.append([sum(numbers) / len(words) for numbers in zip(*words, strict=True)])
        return found

    def probability(self, codes: list[int]) -> float:
        logit = self.logit(codes)
        if self.original:
            (share,) = self.original.codebooks["share"][1]
            logit = (1 - share) * logit + share * self.original.logit(codes)
        return 1 / (1 + math.exp(-logit))

    def logit(self, codes: list[int]) -> float:
        """Of one of the two models."""
        vectors = self.vectors(codes)
        x = [number for vector in vectors for number in vector]
        first_order = sum(a * b for a, b in zip(self.network["first_order_FD"][1], x, strict=True))
        total = first_order + self.interaction(vectors, x) + self.deep(x)
        if cap := self.model["logit_cap"]:
            total = cap * math.tanh(total / cap)
        return total + self.network["bias"][1][0]

    def interaction(self, vectors: list[list[float]], x: list[float]) -> float:
        if self.model["network"] == "deepfm":
            return 0.5 * sum(sum(column) ** 2 - sum(v * v for v in column) for column in zip(*vectors, strict=True))
        z = x
        for layer in range(self.model["cross_layers"]):
            down = self.linear(f"interaction.down.{layer}", z, bias=False)
            up = self.linear(f"interaction.up.{layer}", down)
            z = [a * u + b for a, u, b in zip(x, up, z, strict=True)]
        return self.linear("interaction.out", z)[0]

    def deep(self, x: list[float]) -> float:
        layers = len(self.model["hidden"])
        for layer in range(layers):
            x = [max(0.0, number) for number in self.linear(f"deep.{2 * layer}", x)]
        return self.linear(f"deep.{2 * layers}", x)[0]

    def linear(self, name: str, x: list[float], *, bias: bool = True) -> list[float]:
        (rows, width), weight = self.network[f"{name}.weight"]
        shift = self.network[f"{name}.bias"][1] if bias else [0.0] * rows
        return [
            sum(w * v for w, v in zip(weight[i * width : (i + 1) * width], x, strict=True)) + shift[i]
            for i in range(rows)
        ]


def mix(key: int, seed: int) -> int:
    """The finaliser of MurmurHash3."""
    h = (key + seed) & MASK
    h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCD & MASK
    h = (h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ (h >> 33)


def single(x: float) -> float:
    """The nearest 32-bit float, or the largest."""
    largest = (2 - 2**-23) * 2.0**127
    return struct.unpack("<f", struct.pack("<f", max(-largest, min(x, largest))))[0]


def bucket(x: float, boundaries: list[float]) -> int:
    """The bucket of a number."""
    if boundaries:
        return sum(edge <= x for edge in boundaries)
    if x == 0:
        return 0
    (root,) = struct.unpack(">d", bytes.fromhex("3FE6A09E667F3BCD"))
    mantissa, exponent = math.frexp(abs(x))
    return int(math.copysign(2 * exponent + (mantissa >= root) + 4096, x))


def sip(k: bytes, message: bytes) -> int:
    """SipHash-2-4, 0 taken as 1."""
    k0, k1 = struct.unpack("<2Q", k)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        sip_rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xFF
    sip_rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3] or 1


def sip_rounds(v: list[int], count: int) -> None:
    """So many rounds of SipHash, in place."""
    for _ in range(count):
        for a, b, left, turned in ((0, 1, 13, 0), (2, 3, 16, None), (0, 3, 21, None), (2, 1, 17, 2)):
            v[a] = (v[a] + v[b]) & MASK
            v[b] = rotated(v[b], left) ^ v[a]
            if turned is not None:
                v[turned] = rotated(v[turned], 32)


def rotated(word: int, bits: int) -> int:
    """A word of 64 bits rotated to the left."""
    return (word << bits | word >> (64 - bits)) & MASK
