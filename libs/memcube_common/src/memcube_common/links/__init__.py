"""What memories belong to beside themselves: the tasks that read and wrote them, the chains they stand in."""
