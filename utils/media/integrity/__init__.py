"""Find and measure what is missing of a media file that is damaged or cut off."""
