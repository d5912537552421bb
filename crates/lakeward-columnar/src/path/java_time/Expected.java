import java.time.*; import java.time.format.*; import java.util.*;
/** Prints expected.tsv: `java Expected.java > expected.tsv` (Java 17). */
public class Expected {
  public static void main(String[] a) {
    String[] zones = {"UTC","America/New_York","Asia/Kolkata","Pacific/Auckland","Africa/Monrovia"};
    String[] ins = {"2026-07-13T14:05:09.123456Z","2024-12-31T23:59:59.999999Z","2025-01-01T04:59:59Z","2026-03-08T06:59:59.5Z","2026-03-08T07:00:00Z","2027-01-01T12:00:00Z","2028-02-29T00:00:00.000001Z","1960-05-06T07:08:09Z","2026-11-01T05:30:00Z","2023-12-31T00:00:00Z"};
    String[] pats = {"yyyy/MM/dd/HH/","yy u uu uuuu y yyy yyyyyy","M MM MMM MMMM MMMMM L LL LLL LLLL LLLLL","d dd D DD DDD","H HH k kk K KK h hh a","m mm s ss S SSS SSSSSS SSSSSSSSS","E EEE EEEE EEEEE e ee eee eeee eeeee c ccc","Q QQ QQQ QQQQ QQQQQ","Y YY YYYY w ww W","A n N AAAAAAAAAA","VV","X XX XXX XXXX XXXXX","x xx xxx xxxx xxxxx","Z ZZ ZZZ ZZZZ ZZZZZ","O OOOO","G GGGG GGGGG","yyyy'year'MM''dd'it''s'[HH[:mm]]","'dt='yyyy-MM-dd'/h='HH"};
    for (int i=0;i<ins.length;i++) for (int p=0;p<pats.length;p++) {
      // all patterns for each instant in one zone, rotate
      String z = zones[(i+p)%zones.length];
      DateTimeFormatter f = DateTimeFormatter.ofPattern(pats[p], Locale.US);
      System.out.println(String.join("\t", ins[i], z, pats[p], f.format(Instant.parse(ins[i]).atZone(ZoneId.of(z)))));
    }
    for (String z: new String[]{"UTC","America/New_York","Asia/Kolkata","Europe/Berlin"}) for (String s: new String[]{"2026-07-13T14:05:09Z","2026-01-13T14:05:09Z"}) 
      System.out.println(String.join("\t", s, z, "z zzz", DateTimeFormatter.ofPattern("z zzz", Locale.US).format(Instant.parse(s).atZone(ZoneId.of(z)))));
  }
}
