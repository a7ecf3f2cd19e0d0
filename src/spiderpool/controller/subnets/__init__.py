"""Reconcilers of SpiderSubnets and of the automatic pools cut from them."""
