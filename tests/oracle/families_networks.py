"""Small networks with the structure, and the operators, of the families that people train: hidden sizes are
of the order of ten, everything else is as in the published models. For tests/oracle/families.py.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, TOKENS, CLASSES, EXAMPLES = 13, 6, 4, 3


# Transformers of text.

class Attention(nn.Module):
    """As in BERT: three Linear, heads by view and permute, an additive mask."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def split(self, x):
        x = x.view(x.size()[:-1] + (self.heads, x.size(-1) // self.heads))
        return x.permute(0, 2, 1, 3)

    def forward(self, x, mask):
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.size(-1)) + mask
        mixed = torch.matmul(F.softmax(scores, dim=-1), value).permute(0, 2, 1, 3).contiguous()
        return mixed.view(mixed.size()[:-2] + (x.size(-1),))


class BertLayer(nn.Module):
    def __init__(self, width, heads, inner=16):
        super().__init__()
        self.attention, self.dense = Attention(width, heads), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.intermediate, self.output = nn.Linear(width, inner), nn.Linear(inner, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, mask):
        x = self.norm(self.dropout(self.dense(self.attention(x, mask))) + x)
        return self.output_norm(self.dropout(self.output(F.gelu(self.intermediate(x)))) + x)


def additive(mask, like):
    """0 where the mask is 1, and the least float elsewhere."""
    return (1.0 - mask[:, None, None, :].to(like.dtype)) * torch.finfo(torch.float32).min


class Bert(nn.Module):
    names = "input_ids", "attention_mask", "token_type_ids"

    def __init__(self, width=8, heads=2, layers=2, inner=16, vocabulary=VOCABULARY, positions=16):
        super().__init__()
        self.word, self.position = nn.Embedding(vocabulary, width, padding_idx=0), nn.Embedding(positions, width)
        self.kind = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(width, heads, inner) for _ in range(layers))
        self.pooler, self.classifier = nn.Linear(width, width), nn.Linear(width, CLASSES)
        self.register_buffer("position_ids", torch.arange(positions).expand((1, -1)))

    def encode(self, input_ids, attention_mask, token_type_ids):
        x = self.word(input_ids) + self.kind(token_type_ids)
        x = self.norm(x + self.position(self.position_ids[:, :input_ids.size(1)]))
        mask = additive(attention_mask, x)
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def forward(self, input_ids, attention_mask, token_type_ids):
        x = self.encode(input_ids, attention_mask, token_type_ids)
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


class Roberta(nn.Module):
    """Positions count the tokens that are no padding, by a cumulative sum."""
    names = "input_ids", "attention_mask"

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.word = nn.Embedding(VOCABULARY, width, padding_idx=1)
        self.position, self.kind = nn.Embedding(16, width, padding_idx=1), nn.Embedding(1, width)
        self.norm, self.layer = nn.LayerNorm(width, eps=1e-5), BertLayer(width, heads)
        self.dense, self.out_proj = nn.Linear(width, width), nn.Linear(width, CLASSES)

    def forward(self, input_ids, attention_mask):
        real = input_ids.ne(1).int()
        positions = ((torch.cumsum(real, dim=1).type_as(real)) * real).long() + 1
        kinds = torch.zeros(input_ids.size(), dtype=torch.long)
        x = self.norm(self.word(input_ids) + self.kind(kinds) + self.position(positions))
        x = self.layer(x, additive(attention_mask, x))
        return self.out_proj(torch.tanh(self.dense(x[:, 0, :])))


class Conv1D(nn.Module):
    """GPT-2's Linear, whose weight is inputs x outputs."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * 0.3)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        y = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return y.view(x.size()[:-1] + (self.bias.size(0),))


class Gpt2Block(nn.Module):
    def __init__(self, width, heads, positions):
        super().__init__()
        self.width, self.heads = width, heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = Conv1D(width, 3 * width), Conv1D(width, width)
        self.c_fc, self.c_out = Conv1D(width, 4 * width), Conv1D(4 * width, width)
        causal = torch.tril(torch.ones(positions, positions, dtype=torch.uint8))
        self.register_buffer("bias", causal.view(1, 1, positions, positions))

    def forward(self, x):
        parts = self.c_attn(self.ln_1(x)).split(self.width, dim=2)
        query, key, value = (p.view(p.size()[:-1] + (self.heads, self.width // self.heads))
                             .permute(0, 2, 1, 3) for p in parts)
        scores = torch.matmul(query, key.transpose(-1, -2)) / (self.width // self.heads)**0.5
        long, short = key.size(-2), query.size(-2)
        causal = self.bias[:, :, long - short:long, :long].to(torch.bool)
        scores = torch.where(causal, scores, torch.tensor(torch.finfo(torch.float32).min).to(scores.dtype))
        mixed = torch.matmul(F.softmax(scores, dim=-1), value).permute(0, 2, 1, 3).contiguous()
        x = x + self.c_proj(mixed.view(mixed.size()[:-2] + (self.width,)))
        y = self.c_fc(self.ln_2(x))
        y = 0.5 * y * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (y + 0.044715 * torch.pow(y, 3.0))))
        return x + self.c_out(y)


class Gpt2(nn.Module):
    """The head is tied to the embedding."""
    names = "input_ids",

    def __init__(self, width=8, heads=2, layers=2, vocabulary=VOCABULARY, positions=16):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.h = nn.ModuleList(Gpt2Block(width, heads, positions) for _ in range(layers))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, input_ids):
        positions = torch.arange(0, input_ids.size(-1), dtype=torch.long).unsqueeze(0)
        x = self.wte(input_ids.view(-1, input_ids.size(-1))) + self.wpe(positions)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def rotate_half(x):
    return torch.cat((-x[..., x.shape[-1] // 2:], x[..., :x.shape[-1] // 2]), dim=-1)


class LlamaLayer(nn.Module):
    def __init__(self, width, heads, groups):
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.q_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(width, groups * self.size, bias=False) for _ in range(2))
        self.gate_proj, self.up_proj = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(2 * width, width, bias=False)
        self.input_norm, self.post_norm = RmsNorm(width), RmsNorm(width)

    def repeat(self, x):
        batch, groups, tokens, size = x.shape
        x = x[:, :, None, :, :].expand(batch, groups, self.heads // groups, tokens, size)
        return x.reshape(batch, self.heads, tokens, size)

    def forward(self, x, cos, sin, mask):
        batch, tokens, width = x.size()
        y = self.input_norm(x)
        query = self.q_proj(y).view(batch, tokens, self.heads, self.size).transpose(1, 2)
        key = self.k_proj(y).view(batch, tokens, self.groups, self.size).transpose(1, 2)
        value = self.v_proj(y).view(batch, tokens, self.groups, self.size).transpose(1, 2)
        query = query * cos + rotate_half(query) * sin
        key = key * cos + rotate_half(key) * sin
        scores = torch.matmul(query, self.repeat(key).transpose(2, 3)) / math.sqrt(self.size) + mask
        y = torch.matmul(F.softmax(scores, dim=-1), self.repeat(value))
        x = x + self.o_proj(y.transpose(1, 2).contiguous().reshape(batch, tokens, width))
        y = self.post_norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))


class Llama(nn.Module):
    """Rotary positions computed in the graph; two heads share a key."""
    names = "input_ids",

    def __init__(self, width=16, heads=4, groups=2, layers=2):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList(LlamaLayer(width, heads, groups) for _ in range(layers))
        self.norm, self.lm_head = RmsNorm(width), nn.Linear(width, VOCABULARY, bias=False)
        size = width // heads
        self.register_buffer("inv_freq", 1.0 / (10000**(torch.arange(0, size, 2).float() / size)),
                             persistent=False)

    def forward(self, input_ids):
        x = self.embed_tokens(input_ids)
        tokens = input_ids.shape[1]
        positions = torch.arange(tokens).unsqueeze(0)
        frequencies = self.inv_freq[None, :, None].expand(positions.shape[0], -1, 1)
        angles = (frequencies @ positions[:, None, :].to(x.dtype)).transpose(1, 2)
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
        mask = torch.full((tokens, tokens), torch.finfo(torch.float32).min, dtype=x.dtype)
        order = torch.arange(tokens)
        mask = mask.masked_fill(order < (order + 1).view(tokens, 1), 0)
        mask = mask[None, None, :, :].expand(input_ids.shape[0], 1, tokens, tokens)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.lm_head(self.norm(x))


class T5Attention(nn.Module):
    def __init__(self, width, heads, bias=False, both=True):
        super().__init__()
        self.heads, self.both = heads, both
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        if bias:
            self.relative_attention_bias = nn.Embedding(8, heads)

    def bucket(self, relative, buckets=8, distance=16):
        found = 0
        if self.both:
            buckets //= 2
            found = found + (relative > 0).to(torch.long) * buckets
            relative = torch.abs(relative)
        else:
            relative = -torch.min(relative, torch.zeros_like(relative))
        exact = buckets // 2
        large = exact + (torch.log(relative.float() / exact) / math.log(distance / exact)
                         * (buckets - exact)).to(torch.long)
        large = torch.min(large, torch.full_like(large, buckets - 1))
        return found + torch.where(relative < exact, relative, large)

    def position_bias(self, tokens):
        relative = torch.arange(tokens)[None, :] - torch.arange(tokens)[:, None]
        return self.relative_attention_bias(self.bucket(relative)).permute([2, 0, 1]).unsqueeze(0)

    def forward(self, x, other, bias):
        batch = x.shape[0]
        split = lambda y: y.view(batch, -1, self.heads, x.shape[2] // self.heads).transpose(1, 2)
        query, key, value = split(self.q(x)), split(self.k(other)), split(self.v(other))
        weights = F.softmax(torch.matmul(query, key.transpose(3, 2)) + bias, dim=-1)
        mixed = torch.matmul(weights, value).transpose(1, 2).contiguous()
        return self.o(mixed.view(batch, -1, x.shape[2]))


class T5Block(nn.Module):
    def __init__(self, width, heads, first, decoder):
        super().__init__()
        self.attention = T5Attention(width, heads, first, not decoder)
        self.cross = T5Attention(width, heads) if decoder else None
        self.norms = nn.ModuleList(RmsNorm(width) for _ in range(3 if decoder else 2))
        self.wi, self.wo = nn.Linear(width, 2 * width, bias=False), nn.Linear(2 * width, width, bias=False)

    def forward(self, x, bias, encoded=None, encoded_bias=None):
        y = self.norms[0](x)
        x = x + self.attention(y, y, bias)
        if self.cross is not None:
            x = x + self.cross(self.norms[1](x), encoded, encoded_bias)
        return x + self.wo(F.relu(self.wi(self.norms[-1](x))))


class T5(nn.Module):
    names = "input_ids", "attention_mask", "decoder_input_ids"

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.shared = nn.Embedding(VOCABULARY, width)
        self.encoder = nn.ModuleList(T5Block(width, heads, i == 0, False) for i in range(2))
        self.decoder = nn.ModuleList(T5Block(width, heads, i == 0, True) for i in range(2))
        self.encoder_norm, self.decoder_norm = RmsNorm(width), RmsNorm(width)
        self.lm_head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, input_ids, attention_mask, decoder_input_ids):
        x = self.shared(input_ids)
        mask = additive(attention_mask, x)
        bias = self.encoder[0].attention.position_bias(input_ids.shape[1]) + mask
        for block in self.encoder:
            x = block(x, bias)
        encoded = self.encoder_norm(x)
        y, tokens = self.shared(decoder_input_ids), decoder_input_ids.shape[1]
        order = torch.arange(tokens)
        causal = order[None, None, :].repeat(y.shape[0], tokens, 1) <= order[None, :, None]
        causal = (1.0 - causal[:, None, :, :].to(y.dtype)) * torch.finfo(torch.float32).min
        bias = self.decoder[0].attention.position_bias(tokens) + causal
        for block in self.decoder:
            y = block(y, bias, encoded, mask)
        return self.lm_head(self.decoder_norm(y) * y.shape[-1]**-0.5)


class ClipText(nn.Module):
    """The state at the end of the text, which has the greatest token of all."""
    names = "input_ids",

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.token_embedding, self.position_embedding = nn.Embedding(VOCABULARY, width), nn.Embedding(TOKENS, width)
        self.ln_1, self.ln_2, self.final = (nn.LayerNorm(width) for _ in range(3))
        self.attention, self.out_proj = Attention(width, heads), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.text_projection = nn.Linear(width, CLASSES, bias=False)
        self.register_buffer("position_ids", torch.arange(TOKENS).expand((1, -1)))
        mask = torch.full((TOKENS, TOKENS), torch.finfo(torch.float32).min).triu(1)
        self.register_buffer("causal", mask[None, None], persistent=False)

    def forward(self, input_ids):
        tokens = input_ids.shape[-1]
        x = self.token_embedding(input_ids) + self.position_embedding(self.position_ids[:, :tokens])
        x = x + self.out_proj(self.attention(self.ln_1(x), self.causal))
        y = self.fc1(self.ln_2(x))
        x = self.final(x + self.fc2(y * torch.sigmoid(1.702 * y)))
        pooled = x[torch.arange(x.shape[0]), input_ids.to(torch.int).argmax(dim=-1)]
        return self.text_projection(pooled)


# Transformers of images.

class VitBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = ((query @ key.transpose(-2, -1)) * (width // self.heads)**-0.5).softmax(dim=-1)
        x = x + self.proj((weights @ value).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    names = "pixel_values",

    def __init__(self, width=8, heads=2, layers=2, side=8, patch=4, classes=CLASSES):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (side // patch)**2, width))
        self.blocks = nn.ModuleList(VitBlock(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, pixel_values):
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def partition(x, window):
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window, window, channels)


def departition(x, window, height, width):
    batch = int(x.shape[0] // (height * width // window // window))
    x = x.view(-1, height // window, width // window, window, window, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, height, width, x.shape[-1])


class SwinBlock(nn.Module):
    def __init__(self, width, heads, side, window, shift):
        super().__init__()
        self.heads, self.side, self.window, self.shift = heads, side, window, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.bias_table = nn.Parameter(torch.randn((2 * window - 1)**2, heads) * 0.2)
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij"))
        places = places.flatten(1)
        relative = (places[:, :, None] - places[:, None, :]).permute(1, 2, 0) + window - 1
        self.register_buffer("index", relative[..., 0] * (2 * window - 1) + relative[..., 1])
        if shift:
            regions, count = torch.zeros(1, side, side, 1), 0
            cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
            for rows in cuts:
                for columns in cuts:
                    regions[:, rows, columns, :] = count
                    count += 1
            cells = partition(regions, window).view(-1, window * window)
            mask = cells.unsqueeze(1) - cells.unsqueeze(2)
            self.register_buffer("attn_mask", mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0))

    def attend(self, x):
        windows, tokens, width = x.shape
        parts = self.qkv(x).reshape(windows, tokens, 3, self.heads, width // self.heads)
        parts = parts.permute(2, 0, 3, 1, 4)
        query, key, value = parts[0] * (width // self.heads)**-0.5, parts[1], parts[2]
        scores = query @ key.transpose(-2, -1)
        bias = self.bias_table[self.index.view(-1)].view(tokens, tokens, -1)
        scores = scores + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        if self.shift:
            count = self.attn_mask.shape[0]
            scores = scores.view(-1, count, self.heads, tokens, tokens)
            scores = (scores + self.attn_mask.unsqueeze(1).unsqueeze(0)).view(-1, self.heads, tokens, tokens)
        return self.proj((scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(windows, tokens, width))

    def forward(self, x):
        batch, tokens, width = x.shape
        y = self.norm1(x).view(batch, self.side, self.side, width)
        if self.shift:
            y = torch.roll(y, shifts=(-self.shift, -self.shift), dims=(1, 2))
        y = self.attend(partition(y, self.window).view(-1, self.window**2, width))
        y = departition(y.view(-1, self.window, self.window, width), self.window, self.side, self.side)
        if self.shift:
            y = torch.roll(y, shifts=(self.shift, self.shift), dims=(1, 2))
        x = x + y.view(batch, tokens, width)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Swin(nn.Module):
    names = "pixel_values",

    def __init__(self, width=8, heads=2, side=4):
        super().__init__()
        self.side, self.patches = side, nn.Conv2d(3, width, 2, 2)
        self.patch_norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(SwinBlock(width, heads, side, 2, 0), SwinBlock(width, heads, side, 2, 1))
        self.merge_norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, width, bias=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, pixel_values):
        x = self.blocks(self.patch_norm(self.patches(pixel_values).flatten(2).transpose(1, 2)))
        x = x.view(x.shape[0], self.side, self.side, x.shape[2])
        x = torch.cat([x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)], -1)
        x = self.reduction(self.merge_norm(x.view(x.shape[0], -1, x.shape[3])))
        return self.head(F.adaptive_avg_pool1d(self.norm(x).transpose(1, 2), 1).flatten(1))


# Convolutional networks.

def conv_norm(before, after, size, stride=1, groups=1, activation=nn.ReLU):
    layers = [nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


class ConvNextBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x):
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return self.weight[:, None, None] * ((x - mean) / torch.sqrt(variance + 1e-6)) + self.bias[:, None, None]


class ConvNext(nn.Module):
    names = "pixel_values",

    def __init__(self, width=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 2, 2), ChannelNorm(width))
        self.stage1 = ConvNextBlock(width)
        self.down = nn.Sequential(ChannelNorm(width), nn.Conv2d(width, 2 * width, 2, 2))
        self.stage2 = ConvNextBlock(2 * width)
        self.norm, self.head = nn.LayerNorm(2 * width, eps=1e-6), nn.Linear(2 * width, CLASSES)

    def forward(self, pixel_values):
        x = self.stage2(self.down(self.stage1(self.stem(pixel_values))))
        return self.head(self.norm(x.mean([-2, -1])))


class Bottleneck(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1, self.conv2 = conv_norm(before, width, 1), conv_norm(width, width, 3, stride)
        self.conv3 = conv_norm(width, 4 * width, 1, activation=None)
        self.downsample = None
        if stride != 1 or before != 4 * width:
            self.downsample = conv_norm(before, 4 * width, 1, stride, activation=None)

    def forward(self, x):
        y = self.conv3(self.conv2(self.conv1(x)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    names = "pixel_values",

    def __init__(self):
        super().__init__()
        self.stem, self.pool = conv_norm(3, 4, 7, 2), nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(Bottleneck(4, 2, 1), Bottleneck(8, 2, 1), Bottleneck(8, 4, 2))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(16, CLASSES)

    def forward(self, pixel_values):
        x = self.layers(self.pool(self.stem(pixel_values)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Squeeze(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, width, inner, activation, gate):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)
        self.activation, self.gate = activation, gate

    def forward(self, x):
        return x * self.gate(self.fc2(self.activation(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class Inverted(nn.Module):
    def __init__(self, before, inner, after, size, stride, activation, squeeze):
        super().__init__()
        self.expand = conv_norm(before, inner, 1, activation=activation)
        self.depth = conv_norm(inner, inner, size, stride, inner, activation)
        self.squeeze, self.project = squeeze(inner), conv_norm(inner, after, 1, activation=None)
        self.residual = stride == 1 and before == after

    def forward(self, x):
        y = self.project(self.squeeze(self.depth(self.expand(x))))
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """MobileNetV3: HardSwish, and gates of HardSigmoid."""
    names = "pixel_values",

    def __init__(self):
        super().__init__()
        squeeze = lambda width: Squeeze(width, 4, F.relu, F.hardsigmoid)
        self.features = nn.Sequential(
            conv_norm(3, 4, 3, 2, activation=nn.Hardswish), Inverted(4, 8, 4, 3, 1, nn.ReLU, squeeze),
            Inverted(4, 8, 6, 5, 2, nn.Hardswish, squeeze), conv_norm(6, 12, 1, activation=nn.Hardswish))
        self.classifier = nn.Sequential(nn.Linear(12, 8), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(8, CLASSES))

    def forward(self, pixel_values):
        x = F.adaptive_avg_pool2d(self.features(pixel_values), 1)
        return self.classifier(torch.flatten(x, 1))


class EfficientNet(nn.Module):
    names = "pixel_values",

    def __init__(self):
        super().__init__()
        squeeze = lambda width: Squeeze(width, 2, F.silu, torch.sigmoid)
        self.features = nn.Sequential(
            conv_norm(3, 4, 3, 2, activation=nn.SiLU), Inverted(4, 8, 4, 3, 1, nn.SiLU, squeeze),
            Inverted(4, 8, 6, 5, 2, nn.SiLU, squeeze), conv_norm(6, 12, 1, activation=nn.SiLU))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, CLASSES))

    def forward(self, pixel_values):
        x = F.adaptive_avg_pool2d(self.features(pixel_values), 1)
        return self.classifier(torch.flatten(x, 1))


class DenseLayer(nn.Module):
    def __init__(self, before, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(before), nn.Conv2d(before, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features):
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class DenseNet(nn.Module):
    names = "pixel_values",

    def __init__(self, growth=3):
        super().__init__()
        self.conv = conv_norm(3, 4, 3)
        self.block1 = nn.ModuleList(DenseLayer(4 + i * growth, growth) for i in range(2))
        self.norm, self.transition = nn.BatchNorm2d(4 + 2 * growth), nn.Conv2d(4 + 2 * growth, 5, 1, bias=False)
        self.block2 = nn.ModuleList(DenseLayer(5 + i * growth, growth) for i in range(2))
        self.last, self.classifier = nn.BatchNorm2d(5 + 2 * growth), nn.Linear(5 + 2 * growth, CLASSES)

    @staticmethod
    def block(layers, x):
        features = [x]
        for layer in layers:
            features.append(layer(features))
        return torch.cat(features, 1)

    def forward(self, pixel_values):
        x = self.block(self.block1, self.conv(pixel_values))
        x = F.avg_pool2d(self.transition(F.relu(self.norm(x))), 2, 2)
        x = F.relu(self.last(self.block(self.block2, x)))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class UNet(nn.Module):
    """A class for each pixel; one step up by a transposed convolution, one by resizing."""
    names = "pixel_values",

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.middle = conv_norm(3, 3, 3), conv_norm(3, 4, 3), conv_norm(4, 5, 3)
        self.up2, self.join2 = nn.ConvTranspose2d(5, 4, 2, 2), conv_norm(8, 4, 3)
        self.join1, self.last = conv_norm(7, 3, 3), nn.Conv2d(3, CLASSES, 1)

    def forward(self, pixel_values):
        one = self.down1(pixel_values)
        two = self.down2(F.max_pool2d(one, 2))
        x = self.middle(F.max_pool2d(two, 2))
        x = self.join2(torch.cat([two, self.up2(x)], 1))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.last(self.join1(torch.cat([one, x], 1)))
        return x.permute(0, 2, 3, 1).flatten(1, 2)


# Recurrent networks.

class Recurrent(nn.Module):
    names = "input_ids",

    def __init__(self, kind, **options):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 5)
        self.rnn = kind(5, 4, batch_first=True, **options)
        self.classifier = nn.Linear(8 if options.get("bidirectional") else 4, CLASSES)


class Lstm(Recurrent):
    """Two layers in both directions; the mean of their states over the tokens."""

    def __init__(self):
        super().__init__(nn.LSTM, num_layers=2, bidirectional=True)

    def forward(self, input_ids):
        return self.classifier(self.rnn(self.embedding(input_ids))[0].mean(dim=1))


class Gru(Recurrent):
    """The last state."""

    def __init__(self):
        super().__init__(nn.GRU)

    def forward(self, input_ids):
        return self.classifier(self.rnn(self.embedding(input_ids))[1][-1])


# What tests/oracle/families_graphs.py writes the graphs of.

class Mlp(nn.Module):
    names = "x",

    def __init__(self, inputs=6, hidden=5):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, CLASSES)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Cnn(nn.Module):
    names = "x",

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        return self.fc(F.relu(self.bn2(self.conv2(x))).mean([2, 3]))


class KerasCnn(nn.Module):
    """Keras's layers, by Keras's shapes: images and kernels with channels last."""
    names = "x",

    def __init__(self, side=6):
        super().__init__()
        draw = lambda *shape: nn.Parameter(torch.randn(shape) * 0.4)
        self.kernel, self.bias = draw(3, 3, 2, 4), draw(4)
        self.kernel_1, self.bias_1 = draw(4 * ((side - 2) // 2)**2, 5), draw(5)
        self.kernel_2, self.bias_2 = draw(5, CLASSES), draw(CLASSES)

    def forward(self, x):
        x = F.conv2d(x.permute(0, 3, 1, 2), self.kernel.permute(3, 2, 0, 1), self.bias)
        x = F.max_pool2d(F.relu(x), 2).permute(0, 2, 3, 1).flatten(1)
        return F.relu(x @ self.kernel_1 + self.bias_1) @ self.kernel_2 + self.bias_2


class SklearnMlp(nn.Module):
    """scikit-learn's MLPClassifier: coefs_ are inputs x outputs, intercepts_ rows."""
    names = "X",

    def __init__(self):
        super().__init__()
        draw = lambda *shape: nn.Parameter(torch.randn(shape) * 0.5)
        self.coefficient, self.intercepts = draw(6, 5), draw(1, 5)
        self.coefficient1, self.intercepts1 = draw(5, CLASSES), draw(1, CLASSES)

    def forward(self, X):
        return F.relu(X @ self.coefficient + self.intercepts) @ self.coefficient1 + self.intercepts1
