"""Sizes and colours, panels, names beside marks and the look of each arm, which figures share."""
