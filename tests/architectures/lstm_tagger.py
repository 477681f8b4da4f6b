"""A tagger of words: embedding, a bidirectional LSTM of two layers, a linear layer per word."""

import torch
from torch import nn


class LstmTagger(nn.Module):
    def __init__(self, words: int = 50, width: int = 16, tags: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.tag = nn.Linear(24, tags)

    def forward(self, words):
        y, _ = self.lstm(self.embedding(words))
        return torch.log_softmax(self.tag(y), dim=-1)


def build():
    return LstmTagger(), (torch.randint(0, 50, (1, 6)),)
