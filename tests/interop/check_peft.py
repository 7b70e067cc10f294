#!/usr/bin/env python3
"""PEFT against this project, in both directions.

usage: check_peft.py BIN_DIR WORK_DIR

A small float model and adapters over it are trained here. Its export with the
adapters in PEFT's layout must have the loss in transformers and PEFT that
bitnet-eval --adapter has; adapters that PEFT saved must have the loss here that
they have there. Exit 1 if a loss differs by more than 1e-4.
"""
import json
import os
import shutil
import subprocess
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

LIMIT, WINDOW = 1e-4, 32

TEXT = "".join(f"line {i}: the river runs over stones and under the mountain\n" for i in range(150))
CONFIG = {
    "model": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2,
              "max_position_embeddings": WINDOW},
    "quantization": {"weight_bits": "none"},
    "data": {"train": "text.txt"},
    "training": {"seq_len": WINDOW, "batch_size": 4, "max_steps": 40, "warmup_steps": 2,
                 "learning_rate": 0.01},
}


def tool(name, *arguments):
    return subprocess.run([os.path.join(programs, name), *arguments], check=True,
                          stdout=subprocess.PIPE, text=True).stdout


def loss_here(adapter):
    return json.loads(tool("bitnet-eval", "base", "--adapter", adapter, "--data", "sample.txt",
                           "--json"))["loss"]


def loss_there(model):
    """Of the one window that sample.txt is."""
    with open("sample.txt", "rb") as f:
        ids = torch.tensor([list(f.read())])
    with torch.no_grad():
        logits = model(ids[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits[0], ids[0, 1:]).item()


def compare(what, here, there):
    print(f"{what}: {here:.6f} here, {there:.6f} with PEFT")
    return abs(here - there) <= LIMIT


programs = os.path.abspath(sys.argv[1])
shutil.rmtree(sys.argv[2], ignore_errors=True)
os.makedirs(sys.argv[2])
os.chdir(sys.argv[2])
with open("text.txt", "w", encoding="ascii") as f:
    f.write(TEXT)
with open("new.txt", "w", encoding="ascii") as f:
    f.write(TEXT.replace("river", "train"))
with open("sample.txt", "w", encoding="ascii") as f:
    f.write(TEXT.replace("river", "train")[:WINDOW + 1])
with open("config.json", "w", encoding="ascii") as f:
    json.dump(CONFIG, f)

tool("bitnet-train", "config.json", "--quiet", "--output-dir", "base")
tool("bitnet-train", "config.json", "--quiet", "--output-dir", "adapter", "--base", "base", "--set",
     "data.train=new.txt", "--set", "adapter.lora_alpha=20")
tool("bitnet-adapter", "adapter", "--base", "base", "-o", "peft", "--format", "peft", "--quiet")
tool("bitnet-export", "base", "--format", "safetensors", "--hf-weights", "float32", "-o", "hf", "--quiet")

base = AutoModelForCausalLM.from_pretrained("hf", dtype=torch.float32).eval()
right = compare("trained here", loss_here("adapter"),
                loss_there(PeftModel.from_pretrained(base, "peft").eval()))

torch.manual_seed(1)
base = AutoModelForCausalLM.from_pretrained("hf", dtype=torch.float32)
model = get_peft_model(base, LoraConfig(r=3, lora_alpha=5, use_rslora=True,
                                        target_modules=["q_proj", "down_proj"])).eval()
for name, parameter in model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(parameter, std=0.3)
model.save_pretrained("saved")
right &= compare("saved by PEFT", loss_here("saved"), loss_there(model))
sys.exit(0 if right else 1)
