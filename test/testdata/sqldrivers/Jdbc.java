import java.sql.*;
import java.util.*;

/** JDBC: arguments are host, port, user, password, database. */
public class Jdbc {
    static void check(boolean good, String what) {
        if (!good) throw new AssertionError(what);
    }

    public static void main(String[] a) throws Exception {
        Properties p = new Properties();
        p.setProperty("user", a[2]);
        p.setProperty("password", a[3]);
        p.setProperty("sslmode", "require");
        p.setProperty("ApplicationName", "java test");
        try (Connection c = DriverManager.getConnection("jdbc:postgresql://" + a[0] + ":" + a[1] + "/" + a[4], p)) {
            try (Statement s = c.createStatement()) {
                s.execute("DROP TABLE IF EXISTS java");
                s.execute("CREATE TABLE java (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, raw BLOB, ok BOOLEAN)");
            }
            try (PreparedStatement s = c.prepareStatement("INSERT INTO java (name, price, raw, ok) VALUES (?, ?, ?, ?)")) {
                for (int i = 0; i < 20; i++) {
                    s.setString(1, "O'Brien \u2603 " + i);
                    s.setDouble(2, i / 2.0);
                    s.setBytes(3, new byte[] {0, (byte) 255});
                    s.setBoolean(4, i % 2 == 0);
                    s.addBatch();
                }
                check(s.executeBatch().length == 20, "batch");
            }
            try (PreparedStatement s = c.prepareStatement("SELECT id, name, price, raw, ok FROM java WHERE id = ?")) {
                for (int i = 1; i <= 8; i++) { // from the fifth on it is prepared on the server, in binary
                    s.setInt(1, i);
                    try (ResultSet r = s.executeQuery()) {
                        check(r.next() && r.getInt(1) == i && r.getString(2).equals("O'Brien \u2603 " + (i - 1)), "row " + i);
                        check(r.getDouble(3) == (i - 1) / 2.0 && r.getBytes(4).length == 2 && r.getBoolean(5) == (i % 2 == 1), "values " + i);
                    }
                }
            }
            c.setAutoCommit(false);
            try (Statement s = c.createStatement()) {
                s.executeUpdate("DELETE FROM java");
                Savepoint before = c.setSavepoint();
                try {
                    s.executeQuery("SELECT * FROM nowhere");
                    check(false, "no error");
                } catch (SQLException e) {
                    check(e.getSQLState().equals("42P01"), e.getSQLState());
                }
                c.rollback(before);
                c.rollback();
                s.setFetchSize(7);
                int n = 0;
                try (ResultSet r = s.executeQuery("SELECT id FROM java ORDER BY id")) {
                    while (r.next()) n++;
                }
                check(n == 20, n + " rows in parts");
                c.commit();
            }
            c.setAutoCommit(true);
            DatabaseMetaData m = c.getMetaData();
            try (ResultSet r = m.getTables(null, null, "java", new String[] {"TABLE"})) {
                check(r.next() && r.getString("TABLE_NAME").equals("java"), "getTables");
            }
            StringBuilder columns = new StringBuilder();
            try (ResultSet r = m.getColumns(null, null, "java", "%")) {
                while (r.next()) columns.append(r.getString("COLUMN_NAME")).append(' ').append(r.getString("TYPE_NAME")).append(' ');
            }
            check(columns.toString().startsWith("id ") && columns.toString().contains("name text"), "getColumns: " + columns);
            try (ResultSet r = m.getPrimaryKeys(null, null, "java")) {
                check(r.next() && r.getString("COLUMN_NAME").equals("id"), "getPrimaryKeys");
            }
            try (ResultSet r = m.getIndexInfo(null, null, "java", false, false)) {
                while (r.next()) { }
            }
            try (ResultSet r = m.getSchemas()) {
                check(r.next(), "getSchemas");
            }
            try (Statement s = c.createStatement()) {
                s.setQueryTimeout(1);
                try {
                    s.executeQuery("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n");
                    check(false, "no timeout");
                } catch (SQLException e) {
                    check(e.getSQLState().equals("57014"), e.getSQLState());
                }
            }
        }
        System.out.println("ok");
    }
}
