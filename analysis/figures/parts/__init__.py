"""What figures share: sizes and colours, panels, names beside marks, and the look of each arm."""
