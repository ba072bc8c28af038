"""The tokenizer's vocabulary, in the package: nothing is ever downloaded. NOTICE says where it comes from."""

from proxy.pricing.vocabulary.ranks import VOCABULARIES, Vocabulary, VocabularyError, load

__all__ = ["VOCABULARIES", "Vocabulary", "VocabularyError", "load"]
