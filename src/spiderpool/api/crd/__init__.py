"""The custom resources of this API group as types, and the CRDs made of them."""
