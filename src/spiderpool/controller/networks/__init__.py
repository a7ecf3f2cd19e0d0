"""Reconcilers of SpiderCoordinators and SpiderMultusConfigs."""
